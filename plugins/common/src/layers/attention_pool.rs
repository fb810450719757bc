//! Attention pooling: a learned query combines all tokens into one (arXiv 1810.00825).

use crate::{
    Result,
    activation::Activation,
    config::heads_divide,
    gradients::{Parameter, note, repeated},
    kernels::attention::{
        BatchStride, Heads, Span, Strided, attention_backward_with_values, attention_of,
    },
    layers::{linear::Linear, mlp::Mlp, norm::LayerNorm},
    tensor::{from_vec, with_slice},
    weights::Scope,
};
use candle_core::Tensor;

/// timm's `AttentionPoolLatent` (`timm/layers/attention_pool.py`) with one latent, as in SigLIP: attention of
/// the latent to all tokens, then a perceptron on a residual branch.
pub struct AttentionPool {
    latent: Parameter,
    query: Linear,
    key_value: Linear,
    output: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl AttentionPool {
    /// Takes `latent`, `q`, `kv`, `proj`, `norm` and `mlp` from `scope`. `hidden` is the width of the
    /// perceptron.
    ///
    /// # Errors
    ///
    /// When `heads` does not divide `width`.
    pub fn new(
        width: usize,
        heads: usize,
        hidden: usize,
        activation: Activation,
        epsilon: f64,
        scope: &Scope<'_>,
    ) -> Result<Self> {
        heads_divide(heads, width)?;
        let linear = |name: &str, outputs| Linear::new(width, outputs, true, &scope.pp(name));
        Ok(Self {
            latent: scope.small_parameter("latent", &[1, 1, width]),
            query: linear("q", width),
            key_value: linear("kv", 2 * width),
            output: linear("proj", width),
            norm: LayerNorm::new(width, epsilon, &scope.pp("norm")),
            mlp: Mlp::new(width, hidden, activation, &scope.pp("mlp")),
            heads,
        })
    }

    /// # Shapes
    ///
    /// `[batch, tokens, width]` → `[batch, 1, width]`
    ///
    /// # Errors
    ///
    /// When a shape does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        // All sequences have the same query.
        let query = self.query.forward(&repeated(&self.latent, width, batch)?)?;
        let key_value = self.key_value.forward(x)?;
        let pooled = self.attend(&query, &key_value, batch, tokens)?;
        let x = self.output.forward(&pooled)?;
        self.mlp.forward_added(&self.norm.forward(&x)?, &x, None)
    }

    /// `[batch, width]` and `[batch, tokens, keys | values]` → `[batch, 1, width]`
    fn attend(
        &self,
        query: &Tensor,
        key_value: &Tensor,
        batch: usize,
        tokens: usize,
    ) -> Result<Tensor> {
        let width = self.query.outputs();
        let row = 2 * width;
        let heads = Heads {
            heads: self.heads,
            kv_heads: self.heads,
            head_dim: width / self.heads,
            causal: false,
        };
        let span = |sequence| Span {
            queries: 1,
            keys: tokens,
            q: sequence * width,
            k: sequence * tokens * row,
            v: sequence * tokens * row,
        };
        let spans: Vec<Span> = (0..batch).map(span).collect();
        let pooled = with_slice(query, |query| {
            with_slice(key_value, |keys| {
                let values = &keys[width.min(keys.len())..];
                let [query, keys, values] = [(query, width), (keys, row), (values, row)]
                    .map(|(data, position)| strided(data, position, heads));
                Ok(attention_of(query, keys, values, &spans, heads))
            })
        })?;
        let pooled = from_vec(pooled, (batch, 1, width))?;
        let inputs = [query.clone(), key_value.clone()];
        note(
            "an attention",
            &[query, key_value],
            &pooled,
            false,
            move |gradient, flow| {
                let [query, key_value] = inputs;
                let [mut query_gradient, mut key_value_gradient] =
                    [&query, &key_value].map(|input| vec![0.0; input.elem_count()]);
                with_slice(&query, |query| {
                    with_slice(&key_value, |keys| {
                        let [query, keys] = [(query, width), (keys, row)]
                            .map(|(data, row)| strided(data, row, heads));
                        let out = [
                            query_gradient.as_mut_slice(),
                            key_value_gradient.as_mut_slice(),
                        ];
                        attention_backward_with_values(
                            query, keys, width, &spans, heads, &gradient, out,
                        );
                        Ok(())
                    })
                })?;
                flow.add(query.id(), query_gradient);
                flow.add(key_value.id(), key_value_gradient);
                Ok(())
            },
        );
        Ok(pooled)
    }
}

fn strided(data: &[f32], position: usize, heads: Heads) -> Strided<'_> {
    Strided {
        data,
        position,
        head: heads.head_dim,
        batch: BatchStride::plain(0),
    }
}
