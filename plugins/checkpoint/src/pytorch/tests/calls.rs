//! Arguments of the functions that a pickle may name.

use super::builder::*;

/// The seventh argument of `_rebuild_tensor_v2` are flags, for example that the numbers are conjugated.
#[test]
fn tensors_with_flags_are_refused() {
    let flagged = |flags: &[u8]| {
        let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
        let arguments = [
            floats(),
            int(0),
            ints(&[4]),
            ints(&[1]),
            b"\x89".to_vec(),
            hooks,
            flags.to_vec(),
        ];
        let call = [
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            &tuple(&arguments)[..],
            b"R",
        ];
        pickled(&dict(&call.concat()))
    };
    for without in [&b"N"[..], b"}"] {
        let checkpoint = open(&flagged(without)).unwrap();
        assert_eq!(checkpoint.get("x").unwrap().shape, [4]);
    }
    for flags in [&dict(b"\x88")[..], &int(1), b"]", b"\x88"] {
        refused("flags", &flagged(flags), &["_rebuild_tensor_v2"]);
    }
}

#[test]
fn a_parameter_is_made_of_a_tensor() {
    let parameter = |data: &[u8]| {
        let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
        let arguments = tuple(&[data.to_vec(), b"\x88".to_vec(), hooks]);
        let function = b"ctorch._utils\n_rebuild_parameter\n";
        pickled(&dict(&[function, &arguments[..], b"R"].concat()))
    };
    let checkpoint = open(&parameter(&tensor(&floats(), 0, &[4], &[1]))).unwrap();
    assert_eq!(checkpoint.get("x").unwrap().shape, [4]);
    for data in [&floats()[..], &int(1), b"N", b"}", b"]"] {
        refused("a parameter", &parameter(data), &["_rebuild_parameter"]);
    }
}

#[test]
fn a_size_is_made_of_a_tuple() {
    let size = |sizes: &[u8]| pickled(&dict(&[b"ctorch\nSize\n", sizes, b"\x85R"].concat()));
    // A value that is not a tensor is skipped.
    open(&size(&ints(&[2, 3]))).unwrap();
    for sizes in [&int(2)[..], b"N", b"}", b"]"] {
        refused("a size", &size(sizes), &["torch.Size"]);
    }
}
