//! Names of files that are named after an id.

/// An id with nothing in it that some file system gives a meaning: one id, one name everywhere, as long as
/// [`same_file`] tells the ids apart.
pub(crate) fn file_name(id: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || "-_.".contains(c) {
        true => c,
        false => '_',
    };
    id.chars().map(plain).collect()
}

/// Whether two ids would name one file, on systems that take `A` for `a` too.
pub(crate) fn same_file(a: &str, b: &str) -> bool {
    file_name(a).eq_ignore_ascii_case(&file_name(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_name_one_file_somewhere_are_told() {
        assert_eq!(file_name("a/b:ü-1.5_x"), "a_b__-1.5_x");
        for (a, b) in [
            ("a", "a"),
            ("Vit", "vIT"),
            ("a/b", "A_b"),
            ("é", "ü"),
            ("x y", "x:y"),
        ] {
            assert!(same_file(a, b), "{a} {b}");
        }
        // Composed and decomposed: the names differ, however the system writes them.
        assert_ne!(file_name("\u{e9}"), file_name("e\u{301}"));
        assert!(!same_file("a-b", "a_b"));
    }
}
