#!/usr/bin/env python3
"""Writes byte_level_bpe.json beside itself: a small byte-level BPE vocabulary, texts, and the ids that the `tokenizers`
package (PyPI, 0.20 or later) gives for them under each pre-tokenizer. The vocabulary is trained without cutting the text into
words, so that its tokens reach over the borders of words and a border in the wrong place shows in the ids.

    python3 tests/golden/make_bpe.py
"""

import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

HERE = pathlib.Path(__file__).parent
MERGES = 900

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LINES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = {
    "qwen2": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + LINES],
    "llama-bpe": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + LINES],
    "olmo": [GPT2],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
}

TEXTS = [
    "Hello, world!",
    " leading space and trailing space ",
    "I'm sure they're here; we've said it'll do, hasn't it? HE'S LOUD, SHE'D SHOUT, IT'LL ECHO.",
    "'s 't 'x ''s '\u017fhort",
    "1 12 123 1234 12345 3.14159 1,000,000 0x1F 2026-11-22",
    "\u00bd \u00b2\u00b3 \u2167 \u0661\u0662\u0663\u0664 \u096a\u0968",
    "two  spaces   three    four\ttab\t\ttabs",
    "line\nline\n\nparagraph\n\n\nmore\r\nwindows\r\n\r\n  \n  indented\n\tcode",
    "spaces at the end   ",
    "newlines at the end\n\n\n",
    "   \n \n",
    " ",
    "\n",
    "def f(x):\n    return {'a': x[0] + 1, \"b\": x**2}  # comment\n\n\nclass A_b2C: pass\n",
    "a<=b && c!=d || e->f; $x = `cmd`; ~/path/to/file.txt?q=1&r=2#frag",
    "snake_case camelCase kebab-case ALLCAPS x1y2z3",
    "Gr\u00f6\u00dfe, fa\u00e7ade, \u00bfqu\u00e9?, na\u00efve co\u00f6perate",
    "combining: e\u0301 a\u0308 o\u0302 n\u0303\u0323",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3002\u4e2d\u6587\uff0c\u6a19\u9ede\uff01\ud55c\uad6d\uc5b4 \ubb38\uc7a5",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u0935\u093e\u0915\u094d\u092f",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u05e9\u05dc\u05d5\u05dd",
    "\U0001f642\U0001f680 emoji \U0001f468\u200d\U0001f469\u200d\U0001f467 family \U0001f1e9\U0001f1ea flag \u2764\ufe0f",
    "no-break\u00a0space, ideographic\u3000space, thin\u2009space, line\u2028separator, next\u0085line",
    "zero\u200bwidth, vowel\u180eseparator, byte\ufefforder",
    "control \u0000 \u0001 \u001b[31m \u007f end",
    "<s> </s> <|endoftext|> <|im_start|> [PAD] <tool>",
    "Donaudampfschifffahrtsgesellschaftskapit\u00e4nsm\u00fctze" * 3,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "=================== ------------------- ...................",
]
WHOLE_WORDS = [" handmade", "unreachable"]  # tokens that no merges lead to
USER_TOKENS = ["  ", "    ", "        ", "<tool>", "<tool>>"]


def pre_tokenizer(patterns):
    cuts = [Split(Regex(p), "isolated") for p in patterns]
    return Sequence(cuts + [ByteLevel(add_prefix_space=False, use_regex=False)])


def train():
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    prose = (HERE.parent.parent / "assets/model/eval_prose.txt").read_text(encoding="utf-8")[:20000]
    alphabet = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=256 + MERGES, initial_alphabet=alphabet, show_progress=False, max_token_length=12)
    tokenizer.train_from_iterator(TEXTS * 5 + prose.split("\n\n"), trainer)
    return json.loads(tokenizer.to_str())["model"]


def written(text):
    return ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


def main():
    model = train()
    merges = [tuple(merge) for merge in model["merges"]]
    vocab = dict(model["vocab"])
    for word in WHOLE_WORDS:
        vocab[written(word)] = len(vocab)
    texts = TEXTS + ["a handmade unreachable unreachable word"]
    ids = {}
    for name, patterns in PATTERNS.items():
        tokenizer = Tokenizer(BPE(vocab, merges, ignore_merges=name == "llama-bpe"))
        tokenizer.pre_tokenizer = pre_tokenizer(patterns)
        ids[name] = [tokenizer.encode(text).ids for text in texts]
    tokenizer = Tokenizer(BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizer(PATTERNS["olmo"])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in USER_TOKENS])
    with_user_tokens = [tokenizer.encode(text).ids for text in texts]
    golden = {
        "tokens": sorted(vocab, key=vocab.get),
        "merges": [" ".join(merge) for merge in merges],
        "user_tokens": USER_TOKENS,
        "texts": texts,
        "ids": ids,
        "ids_with_user_tokens": with_user_tokens,
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in golden.items())
    (HERE / "byte_level_bpe.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


main()
