"""Regenerates everything in tests/fixtures. Needs the lively model (see make_lively_model.py)."""

import make_checkpoints
import make_costs
import make_dinov2
import make_e2e
import make_frame_indices
import make_gguf
import make_hiera
import make_jinja
import make_languagebind
import make_llama
import make_mixer
import make_mixer_init
import make_prompts
import make_siglip
import make_tensorboard
import make_tiny_answers
import make_tokenizers
import make_training
import make_training_runs
import make_transforms
import make_vivit


def main():
    for script in (
        make_siglip, make_dinov2, make_languagebind, make_vivit, make_hiera, make_llama, make_gguf, make_training,
        make_transforms, make_frame_indices, make_mixer, make_mixer_init, make_costs, make_checkpoints, make_tokenizers,
        make_prompts, make_jinja, make_tensorboard, make_e2e, make_tiny_answers, make_training_runs,
    ):
        script.main()


if __name__ == "__main__":
    main()
