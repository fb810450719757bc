//! The product against its definition.

use super::{
    operands::{Form, Left, Product, Right},
    run::{multiplies_pairs, product_into},
};
use crate::{
    kernels::{disjoint::Disjoint, elements::Elements, numbers::numbers},
    precision::Precision,
};

/// Compares all layouts and forms of the forward and backward passes with the definition, written and
/// added, with weights in single and half precision.
#[test]
fn every_layout_agrees_with_the_definition() {
    let sizes = [(1, 3, 2), (7, 5, 33), (130, 300, 70), (97, 601, 129)];
    let forms = [Form::Exact, Form::Rounded, Form::Paired];
    if !multiplies_pairs() {
        eprintln!("not tested: this CPU cannot multiply pairs");
    }
    let forms = forms.into_iter();
    let forms = forms.filter(|form| *form != Form::Paired || multiplies_pairs());
    let cases = forms.flat_map(|form| sizes.map(|sizes| (form, sizes)));
    let cases = cases.flat_map(|(form, sizes)| (0..16).map(move |flags| (form, sizes, flags)));
    for (form, (rows, inputs, outputs), flags) in cases {
        let [x_transposed, w_transposed, added, halves] = [1, 2, 4, 8].map(|bit| flags & bit != 0);
        let (a, b) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
        let before = numbers(rows * outputs, 3);
        let half: Vec<_> = b.iter().map(|&value| half::f16::from_f32(value)).collect();
        let weight = match halves {
            true => Elements::F16(&half),
            false => Elements::F32(&b),
        };
        let operand = |value: f32| match form {
            Form::Exact => f64::from(value),
            _ => half::bf16::from_f32(value).to_f64(),
        };
        let stored = |at: usize| if halves { half[at].to_f32() } else { b[at] };
        let at = |transposed: bool, row: usize, column: usize, [rows, columns]: [usize; 2]| {
            if transposed {
                column * rows + row
            } else {
                row * columns + column
            }
        };
        let mut out = before.clone();
        let x = match x_transposed {
            true => Left::Columns(&a),
            false => Left::Rows(&a),
        };
        let weight = match w_transposed {
            true => Right::Columns(weight),
            false => Right::Rows(weight),
        };
        let product = Product {
            added,
            ..Product::new(x, weight, [rows, inputs, outputs])
        };
        product.run_as(form, Disjoint::new(&mut out));
        for (index, found) in out.iter().enumerate() {
            let (r, o) = (index / outputs, index % outputs);
            let product: f64 = (0..inputs)
                .map(|i| {
                    operand(a[at(x_transposed, r, i, [rows, inputs])])
                        * operand(stored(at(w_transposed, i, o, [inputs, outputs])))
                })
                .sum();
            let expected = product + if added { f64::from(before[index]) } else { 0.0 };
            // No term is greater than 1.
            assert!(
                (f64::from(*found) - expected).abs() < 2e-6 * (inputs + 1) as f64,
                "{form:?}, {rows}x{inputs}x{outputs}, {flags:04b}: {found}, {expected}"
            );
        }
    }
}

#[test]
fn a_product_without_inputs_is_zero() {
    let mut out = [1.0; 4];
    let none = Right::Rows(Elements::F32(&[]));
    product_into(
        Left::Rows(&[]),
        none,
        [2, 0, 2],
        &mut out,
        false,
        Precision::Bf16,
    );
    assert_eq!(out, [0.0; 4]);
    let weight = Right::Rows(Elements::F32(&[1.0; 6]));
    product_into(
        Left::Rows(&[]),
        weight,
        [0, 3, 2],
        &mut [],
        false,
        Precision::Bf16,
    );
}
