//! Malicious pickles.

use super::builder::*;
use crate::pytorch::pickle::{Pickle, Value};

#[test]
fn built_pickles_are_read() {
    let checkpoint = open(&pickled(&dict(&tensor(&floats(), 1, &[3], &[1])))).unwrap();
    assert_eq!(checkpoint.get("x").unwrap().shape, [3]);
    assert_eq!(checkpoint.get("x").unwrap().bytes(), [0; 12]);
}

// CVE-2025-32434 and similar: a pickle names a function and calls it.
#[test]
fn nothing_is_executed() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("runpy", "_run_code"),
        ("webbrowser", "open"),
        ("torch", "load"),
        ("torch.serialization", "load"),
        ("torch.hub", "load"),
        ("torch.jit", "load"),
        ("torch.utils.data", "DataLoader"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch", "QInt8Storage"),
        ("torch", "ComplexFloatStorage"),
        ("collections", "OrderedDict.__init_subclass__"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "load"),
        ("_codecs", "decode"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("importlib", "import_module"),
        ("argparse", "Namespace"),
    ] {
        let full = format!("`{module}.{name}`");
        let words = [full.as_str(), "nothing was executed"];
        let call = [
            format!("c{module}\n{name}\n").as_bytes(),
            &tuple(&[text("id")]),
            b"R",
        ]
        .concat();
        refused(&full, &pickled(&call), &words);
        refused(&full, &pickled(&dict(&call)), &words);
        let stacked = [
            &text(module)[..],
            &text(name),
            b"\x93",
            &tuple(&[text("id")]),
            b"R",
        ]
        .concat();
        refused(&full, &pickled(&stacked), &words);
        let saved = [
            &fixture("merv.legacy.pt")[..15],
            b"\x80\x02M\xe9\x03.\x80\x02}.\x80\x02",
            &call,
            b".",
        ];
        refused(&full, &saved.concat(), &words);
    }
    for (opcode, name) in [
        (&b"(ios\nsystem\n"[..], "INST"),
        (b"(N(o", "OBJ"),
        (b"ccollections\nOrderedDict\n)\x81", "NEWOBJ"),
        (b"ccollections\nOrderedDict\n)}\x92", "NEWOBJ_EX"),
        (b"\x82\x01", "EXT"),
        (b"Pid\n", "PERSID"),
        (b"I1\n", "INT"),
        (b"N0", "POP"),
        (b"N1", "POP_MARK"),
        (b"N2", "DUP"),
        (b"(d", "DICT"),
        (b"L1L\n", "LONG"),
        (b"F1.5\n", "FLOAT"),
        (b"S'x'\n", "STRING"),
        (b"Vx\n", "UNICODE"),
        (b"Np0\n", "PUT"),
        (b"g0\n", "GET"),
        (b"\x8b\x01\0\0\0\x01", "LONG4"),
        (b"\x8f", "EMPTY_SET"),
        (b"(\x91", "FROZENSET"),
        (b"\x96\0\0\0\0\0\0\0\0", "BYTEARRAY8"),
        (b"\x97", "NEXT_BUFFER"),
    ] {
        refused(
            name,
            &pickled(opcode),
            &["opcode", name, "nothing was executed"],
        );
    }
    // State that would set attributes, and calls of values that are not functions.
    let state = dict(b"N");
    let build = |object: &[u8]| pickled(&[object, &state, b"b"].concat());
    refused("state of a dictionary", &build(b"}"), &["a state"]);
    refused(
        "state of a tensor",
        &build(&tensor(&floats(), 0, &[1], &[1])),
        &["a state"],
    );
    refused("state of a type", &build(b"ctorch\nSize\n"), &["a state"]);
    refused(
        "a called string",
        &pickled(&[&text("f")[..], b")R"].concat()),
        &["calls a string"],
    );
    refused(
        "a called dtype",
        &pickled(b"ctorch\nfloat32\n)R"),
        &["a data type"],
    );
    refused(
        "a persistent module",
        &pickled(&[&tuple(&[text("module"), text("x")])[..], b"Q"].concat()),
        &["not a storage"],
    );
    refused(
        "numpy objects",
        &pickled(
            &[
                b"cnumpy\ndtype\n",
                &tuple(&[text("O8"), b"\x89".to_vec(), b"\x88".to_vec()])[..],
                b"R",
            ]
            .concat(),
        ),
        &["numpy.dtype"],
    );
}

// CVE-2026-24747: items set on a value that is not a dictionary, and storages larger than their bytes.
#[test]
fn types_and_sizes_are_checked() {
    for target in [
        &b"]"[..],
        b")",
        b"N",
        b"ctorch\nSize\n",
        b"K\x01",
        &tensor(&floats(), 0, &[1], &[1]),
    ] {
        refused(
            "SETITEM",
            &pickled(&[target, b"NNs"].concat()),
            &["sets keys of"],
        );
        refused(
            "SETITEMS",
            &pickled(&[target, b"(NNNNu"].concat()),
            &["sets keys of"],
        );
    }
    refused("APPENDS", &pickled(b"}(NNe"), &["appends to a dictionary"]);
    refused("half a pair", &pickled(b"}(Nu"), &["has no value"]);

    let one = |storage: Vec<u8>, offset, shape: &[i32], strides: &[i32]| {
        pickled(&dict(&tensor(&storage, offset, shape, strides)))
    };
    let large = |elements| storage("FloatStorage", "0", elements);
    refused(
        "a storage beyond its bytes",
        &one(large(5), 0, &[5], &[1]),
        &["only 16 bytes"],
    );
    refused(
        "a storage beyond the file",
        &one(large(i32::MAX), 0, &[1], &[1]),
        &["only 16 bytes"],
    );
    refused(
        "a storage of negative size",
        &one(large(-1), 0, &[1], &[1]),
        &["not a storage"],
    );
    refused(
        "a storage of wider numbers",
        &one(storage("DoubleStorage", "0", 4), 0, &[4], &[1]),
        &["only 16 bytes"],
    );
    refused(
        "a missing storage",
        &one(storage("FloatStorage", "1", 4), 0, &[4], &[1]),
        &["no storage `1`"],
    );
    refused(
        "a storage in another entry",
        &one(storage("FloatStorage", "../data.pkl", 4), 0, &[4], &[1]),
        &["no storage"],
    );
    for (offset, shape, strides) in [
        (0, &[5][..], &[1][..]),
        (4, &[1], &[1]),
        (3, &[2], &[1]),
        (0, &[2, 2], &[1, 3]),
        (0, &[2, 2], &[i32::MAX, 1]),
        (i32::MAX, &[1], &[1]),
        // Expanded views, which are much larger than their storage.
        (0, &[1 << 30], &[0]),
        (0, &[1 << 30, 1 << 30, 1 << 30], &[0, 0, 0]),
        (0, &[i32::MAX, i32::MAX, i32::MAX, 0], &[1, 1, 1, 1]),
        (0, &[2, 2], &[1]),
    ] {
        let what = format!("{shape:?} {strides:?} from {offset}");
        refused(
            &what,
            &one(floats(), offset, shape, strides),
            &["tensor `x`"],
        );
    }
    refused(
        "a negative shape",
        &one(floats(), 0, &[-1], &[1]),
        &["_rebuild_tensor_v2"],
    );
    refused(
        "65 dimensions",
        &one(floats(), 0, &[1; 65], &[1; 65]),
        &["_rebuild_tensor_v2"],
    );
    refused(
        "two tensors of the same name",
        &pickled(
            &[
                &b"}"[..],
                &text("x"),
                &tensor(&floats(), 0, &[1], &[1]),
                b"s",
                &text("x"),
                &tensor(&floats(), 0, &[1], &[1]),
                b"s",
            ]
            .concat(),
        ),
        &["`x` occurs twice", "rename one"],
    );
    refused(
        "a bare tensor",
        &pickled(&tensor(&floats(), 0, &[1], &[1])),
        &["contains a tensor; expected a dictionary"],
    );
    refused(
        "a bare storage",
        &pickled(&dict(&floats())),
        &["`x` is a storage"],
    );
    refused(
        "a key of floats",
        &pickled(b"}G\0\0\0\0\0\0\0\0Ns"),
        &["a key in"],
    );
}

#[test]
fn declared_lengths_are_checked() {
    for body in [
        &b"X\xff\xff\xff\xff"[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"B\xff\xff\xff\x7f",
        b"\x8e\0\0\0\0\0\x01\0\0",
        b"\x8c\xff",
        b"C\xff",
        b"T\xff\xff\xff\xff",
        b"\x8a\xff",
    ] {
        refused(
            &body.escape_ascii().to_string(),
            &pickled(body),
            &["are declared"],
        );
    }
    let long = [&b"\x8a\x20"[..], &[1; 32]].concat();
    refused(
        "a long of 32 bytes",
        &pickled(&long),
        &["number of 32 bytes"],
    );
    refused("LONG4", &pickled(b"\x8b\xff\xff\xff\x7f"), &["LONG4"]);
    refused(
        "an unterminated name",
        &pickled(&[&b"c"[..], &[b'a'; 5000]].concat()),
        &["does not end"],
    );
    refused("no memo", &pickled(b"h\0"), &["its memo has no entry"]);
    for empty in [
        &b"R"[..],
        b"b",
        b"Q",
        b"t",
        b"e",
        b"u",
        b"s",
        b"a",
        b"q\0",
        b"\x94",
        b"\x85",
        b"\x87",
        b"\x93",
        b"(R",
        b"N(s",
        b"N(b",
        b"N(a",
        b"N(q\0",
    ] {
        let body = empty.escape_ascii().to_string();
        refused(&body, &pickled(empty), &["its pickle, at byte"]);
    }
    refused(
        "a tuple across a mark",
        &pickled(b"N(N\x86t0"),
        &["its stack is empty"],
    );
    refused("nothing", &pickled(b""), &["one object"]);
    refused("an open mark", &pickled(b"}("), &["one object"]);
    refused("protocol 6", &pickled(b"\x80\x06}"), &["protocol 6"]);
}

#[test]
fn cyclic_and_deeply_nested_values_are_refused() {
    refused(
        "a dictionary in itself",
        &pickled(&[&b"}q\0"[..], &text("me"), b"h\0s"].concat()),
        &["`me` contains itself"],
    );
    refused(
        "a list in itself",
        &pickled(b"]q\0h\0a"),
        &["`0` contains itself"],
    );
    refused(
        "two lists in each other",
        &pickled(b"]q\0]q\x01h\0aa"),
        &["contains itself"],
    );
    let nested = [vec![b']'; 1_000_000], vec![b'a'; 999_999]].concat();
    refused("nested lists", &pickled(&nested), &["nested in more than"]);
    let tuples = [&b"N"[..], &[0x85].repeat(1_000_000)].concat();
    refused("nested tuples", &pickled(&tuples), &["nested in more than"]);
    // Each container contains the previous one twice: 2³⁰ values in a few hundred bytes. All of them are
    // in one tuple.
    let levels = |level: fn(u8) -> Vec<u8>| {
        let levels: Vec<_> = (1..=30).map(level).collect();
        [b"(]q\0K\0a", &levels.concat()[..], b"t"].concat()
    };
    let lists = levels(|n| vec![b']', b'q', n, b'h', n - 1, b'a', b'h', n - 1, b'a']);
    refused("shared lists", &pickled(&lists), &["share their contents"]);
    let tuples = levels(|n| vec![b'h', n - 1, b'h', n - 1, 0x86, b'q', n]);
    refused(
        "shared tuples",
        &pickled(&tuples),
        &["share their contents"],
    );
    // One list of pairs that is converted to a dictionary many times.
    let pairs = [
        &b"](K\x01K\x02\x86q\x01"[..],
        &b"h\x01".repeat(50_000),
        b"e\x85q\0",
    ]
    .concat();
    let again = b"ccollections\nOrderedDict\nq\x02h\0R".repeat(200);
    refused(
        "copied pairs",
        &pickled(&[&b"("[..], &pairs, &again, b"t"].concat()),
        &["more than 4194304 values"],
    );
    refused(
        "marks",
        &pickled(&b"(".repeat(5_000_000)),
        &["more than 4194304 marks"],
    );
    refused(
        "values",
        &pickled(&[&b"N"[..], &[0x85].repeat(5_000_000)].concat()),
        &["more than 4194304 values"],
    );
    // Many values in a list with a long name.
    let name = text(&"n".repeat(1 << 20));
    let many = [&b"}"[..], &name, b"](", &b"N".repeat(100), b"es"].concat();
    refused("long names", &pickled(&many), &["names of its values"]);
}

// The bytes are those of `pickle.dumps(number, protocol=2)`.
#[test]
fn long_numbers_keep_their_sign() {
    for (bytes, number) in [
        (&b"\x80\x02\x8a\x05\0\0\0\0\x01."[..], 1i128 << 32),
        (b"\x80\x02\x8a\x05\xff\xff\xff\xff\xfe.", -(1 << 32) - 1),
        (b"\x80\x02\x8a\x05\xff\xff\xff\xff\0.", (1 << 32) - 1),
        (b"\x80\x02\x8a\x05\0\0\0\x80\0.", 1 << 31),
        (b"\x80\x02\x8a\0.", 0),
    ] {
        let (pickle, length) = Pickle::read(bytes).unwrap();
        assert!(
            matches!(pickle.root(), Value::Int(found) if *found == number),
            "{number}: {:?}",
            pickle.root()
        );
        assert_eq!(length, bytes.len());
    }
}
