//! File names that are derived from ids.

/// Replaces all characters of an id that are special on some file system. Two ids get different names if
/// [`same_file`] returns `false` for them.
pub(crate) fn file_name(id: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || "-_.".contains(c) {
        true => c,
        false => '_',
    };
    id.chars().map(plain).collect()
}

/// Returns whether two ids would have the same file name, even on systems that ignore case.
pub(crate) fn same_file(a: &str, b: &str) -> bool {
    file_name(a).eq_ignore_ascii_case(&file_name(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_the_same_file_name_are_recognised() {
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
        // Composed and decomposed characters give different names, whatever form the system uses.
        assert_ne!(file_name("\u{e9}"), file_name("e\u{301}"));
        assert!(!same_file("a-b", "a_b"));
    }
}
