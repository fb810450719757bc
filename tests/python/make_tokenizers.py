"""tests/fixtures/tokenizers: small tokenizers of each family in GGUF files, as llama.cpp's converter would write
them, with the ids of the original libraries: sentencepiece, and `tokenizers` for the byte-level ones.

If `xllamacpp` is installed, the ids are also compared with those of llama.cpp.
"""

import io
import json
import tempfile
import unicodedata
import urllib.request
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
from gguf import TokenType
from tokenizers import (
    AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers,
)

from reference import toy_tokenizer
from reference.fixture_files import FIXTURES, write_lines

OUT = FIXTURES / "tokenizers"
VOCABULARY = 512

# The regular expressions of the published `tokenizer.json` files.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXTS = [
    "", " ", "x", "Hello", " Hello", "Hello ", "  two  blanks  ", "\n", "a\nb\n\n c\n", "tab\tand\r\nreturn",
    "In: Describe what is happening in this video.\nOut:", "A small red circle moves to the left.",
    "It's they'LL We'Ve I'D 'tis can't", "1 12 123 1234 12345 3.14 ２３ Ⅷ ½", "(A) The ball. Yes! No? ...---",
    "naïve café Ünïcode Straße", "日本語 テキスト 한국어 русский عربى", "🦊 🎬👩‍👩‍👧 e\u0301", "\u00a0\u3000\u200b",
    "▁under▁lines ▁", "<video>\nWhat is it?", "if (x<=3) { y[0] += ~2^4 | 'z'; }", "x" * 40, "a" * 7 + " " * 9 + "b",
]


def specials_inside(tokens):
    """Texts with these tokens between, before and after words."""
    first, last = tokens[0], tokens[-1]
    return [first, f"{first}Hello{last}", f"A {first} B\n{last}\n", f"{last}{first} Yes", f"No{last}{last}"]


class ByteLevel:
    """BPE over bytes. `first` and `last` are the special tokens at the start and the end of the vocabulary."""

    def __init__(self, pre, pre_tokenizer, specials, first, bos=None, normalizer=None, user_defined=(), **model):
        self.pre, self.bos, self.specials, self.user_defined = pre, bos, specials, list(user_defined)
        draft = Tokenizer(models.BPE())
        draft.pre_tokenizer = pre_tokenizer
        size = VOCABULARY - len(specials) - len(self.user_defined)
        draft.train_from_iterator(toy_tokenizer.corpus(), trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        ))
        learned = json.loads(draft.to_str())["model"]
        words = sorted(learned["vocab"], key=learned["vocab"].get)
        added = specials + self.user_defined
        self.tokens = added + words if first else words + added
        self.merges = [tuple(merge) for merge in learned["merges"]]
        vocab = {token: id for id, token in enumerate(self.tokens)}
        if model.get("ignore_merges"):
            # A token without merges that lead to it is found as a whole.
            vocab["Ġkitchen"] = vocab.pop(words[-1])
            self.tokens[self.tokens.index(words[-1])] = "Ġkitchen"
            self.merges = [merge for merge in self.merges if words[-1] not in (*merge, "".join(merge))]
        self.tokenizer = Tokenizer(models.BPE(vocab, self.merges, **model))
        if normalizer:
            self.tokenizer.normalizer = normalizer
        self.tokenizer.pre_tokenizer = pre_tokenizer
        self.tokenizer.decoder = decoders.ByteLevel()
        self.tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in specials])
        self.tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in self.user_defined])
        if bos:
            self.tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocab[bos])]
            )
        self.normal = (lambda text: unicodedata.normalize("NFC", text) == text) if normalizer else (lambda text: True)

    def ids(self, text, begin=False):
        return self.tokenizer.encode(text, add_special_tokens=begin).ids

    def decoded(self, ids):
        return self.tokenizer.decode(ids)

    def files(self, folder):
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)

    def metadata(self, writer):
        kinds = [
            TokenType.CONTROL if token in self.specials
            else TokenType.USER_DEFINED if token in self.user_defined else TokenType.NORMAL
            for token in self.tokens
        ]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges([" ".join(merge) for merge in self.merges])
        if self.bos:
            writer.add_bos_token_id(self.tokens.index(self.bos))
        writer.add_eos_token_id(self.tokens.index(self.specials[-1]))


class SentencePiece:
    """Llama's tokenizer: BPE by scores, bytes for unknown characters, a space before each text."""

    specials = ["<s>", "</s>"]

    def __init__(self):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(toy_tokenizer.corpus()), model_writer=model, model_type="bpe",
            vocab_size=VOCABULARY, byte_fallback=True, split_digits=True, character_coverage=1.0,
            normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
            allow_whitespace_only_pieces=True,
        )
        self.model = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        self.tokens = [self.model.id_to_piece(id) for id in range(len(self.model))]
        self.normal = lambda text: True

    def ids(self, text, begin=False):
        ids = [self.model.bos_id()] if begin else []
        # Each part between special tokens is a separate text.
        while text:
            at, token = min(((text.find(t), t) for t in self.specials if t in text), default=(len(text), ""))
            ids += self.model.encode(text[:at]) if at else []
            ids += [self.tokens.index(token)] if token else []
            text = text[at + len(token):]
        return ids

    def decoded(self, ids):
        return self.model.decode(ids)

    def files(self, folder):
        pass

    def metadata(self, writer):
        def kind(id):
            model = self.model
            return (
                TokenType.UNKNOWN if model.is_unknown(id) else TokenType.CONTROL if model.is_control(id)
                else TokenType.BYTE if model.is_byte(id) else TokenType.NORMAL
            )

        ids = range(len(self.model))
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(self.tokens)
        writer.add_token_scores([self.model.get_score(id) for id in ids])
        writer.add_token_types([kind(id) for id in ids])
        writer.add_bos_token_id(self.model.bos_id())
        writer.add_eos_token_id(self.model.eos_id())
        writer.add_unk_token_id(self.model.unk_id())


def split(digits):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT % digits), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def families():
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    end, chat = "<|endoftext|>", ["<|im_start|>", "<|im_end|>"]
    llama3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return {
        "llama": SentencePiece(),
        "llama-bpe": ByteLevel("llama-bpe", split(r"\p{N}{1,3}"), llama3, False, bos=llama3[0], ignore_merges=True),
        "qwen2": ByteLevel(
            "qwen2", split(r"\p{N}"), [end, *chat], False, normalizer=normalizers.NFC(), user_defined=["<tool_call>"]
        ),
        "smollm": ByteLevel("smollm", digits, [end, *chat], True),
        "gpt-2": ByteLevel("gpt-2", whole, [end], False),
    }


def write_gguf(path, family, model=False):
    """Writes the metadata alone, or with a random model, which llama.cpp needs to start."""
    writer = gguf.GGUFWriter(path, "llama")
    family.metadata(writer)
    if model:
        width, rng = 32, np.random.default_rng(0)
        writer.add_context_length(512)
        writer.add_embedding_length(width)
        writer.add_feed_forward_length(width)
        writer.add_block_count(1)
        writer.add_head_count(1)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(width)
        matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
        shapes = {f"blk.0.{name}.weight": (width, width) for name in matrices}
        shapes |= {f"blk.0.{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {"token_embd.weight": (len(family.tokens), width), "output_norm.weight": (width,)}
        for name, shape in shapes.items():
            writer.add_tensor(name, rng.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ask_llama_cpp(path, texts):
    """The ids from llama.cpp's server."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup = str(path), 64, False
    server = xllamacpp.Server(params)

    def ids(text):
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(
            server.listening_address + "/tokenize", body, {"Content-Type": "application/json"}
        )
        return json.load(urllib.request.urlopen(request))["tokens"]

    return [ids(text) for text in texts]


def main(llama_cpp=False):
    for name, family in families().items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        family.files(folder)
        write_gguf(folder / "tokenizer.gguf", family)
        texts = TEXTS + specials_inside(family.specials)
        cases = [{"text": text, "ids": family.ids(text)} for text in texts]
        for case in cases:
            case["decoded"] = family.decoded(case["ids"])
            case["whole"] = family.ids(case["text"], begin=True)
        write_lines(folder / "expected.json", cases)
        if llama_cpp:
            with tempfile.TemporaryDirectory() as other:
                path = Path(other) / "model.gguf"
                write_gguf(path, family, model=True)
                for case, ids in zip(cases, ask_llama_cpp(path, texts)):
                    if ids != case["ids"]:
                        # llama.cpp does not normalise.
                        print(name, "differs", repr(case["text"]), case["ids"], ids)
                        assert not family.normal(case["text"])


if __name__ == "__main__":
    import importlib.util

    main(llama_cpp=importlib.util.find_spec("xllamacpp") is not None)
