"""Real tokenizers in RoBERTa's, DeBERTa's and BERT's format, made of a handful of sentences."""

import json
import string
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_TRAINED_TOKENS = 800
DEBERTA_SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
BERT_SPECIAL_TOKENS = ("[PAD]", *(f"[unused{number}]" for number in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Under the numbers that the published vocabularies give them."""
SENTENCES = (
    "I want to change, but I am not sure that I can.",
    "Um, well, I don't know, maybe I will start next week.",
    "Honestly, I have thought about it for a long time and I am ready.",
    "On the one hand it would be good for me, on the other hand I enjoy it.",
    "Yes, definitely, I decided to do it and I feel great about it.",
    "No, I really would not like to stop, it is who I am.",
    "Part of me says go for it, and another part says leave it alone.",
    "I guess I could try to walk more, you know, if the weather is fine.",
    "My doctor told me to eat less sugar, so, uh, I am kind of trying.",
    "It makes me happy when my family comes to see me on Sunday.",
    "I used to smoke every day; now it is only with friends, sometimes.",
    "I hate getting up early, yet I love how the morning feels.",
    "There is nothing that could stop me from finishing this.",
    "What if it does not work? Then I have lost nothing, I suppose.",
    "They asked us how often we exercise, and I was ashamed to answer.",
    "Last year I tried, I failed, and I tried again; this time is different.",
)


def train_tokenizer(folder: Path, *, filled_to: int) -> int:
    """Write tokenizer.json, tokenizer_config.json, vocab.json and merges.txt of a byte-level BPE.

    Bytes are its alphabet, so that it takes any text in any language.

    Args:
        folder: Folder for the four files.
        filled_to: Tokens that no text has are added up to this number, where it is more: a published model has them.

    Returns:
        The size of the vocabulary, at most 800 where it is not filled.
    """
    from tokenizers import processors

    tokenizer = _byte_level_bpe(folder, SPECIAL_TOKENS, filled_to)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_config(
        folder,
        tokenizer_class="RobertaTokenizer",
        model_max_length=512,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    return tokenizer.get_vocab_size()


def train_deberta_tokenizer(folder: Path, *, filled_to: int) -> int:
    """The same with DeBERTa's special tokens, as vocab.json, merges.txt and the two settings that it is published with.

    Returns:
        The size of the vocabulary, at most 800 where it is not filled.
    """
    tokenizer = _byte_level_bpe(folder, DEBERTA_SPECIAL_TOKENS, filled_to)
    _write_config(folder, do_lower_case=False, vocab_type="gpt2")
    return tokenizer.get_vocab_size()


def write_bert_tokenizer(folder: Path, *, filled_to: int) -> int:
    """Write vocab.txt, tokenizer.json and tokenizer_config.json of uncased BERT's WordPiece.

    Its tokens are the sentences' words, and ASCII's characters for the others; a word with any other is unknown, as
    are words in scripts that BERT does not know. Nothing is trained: how the trainer breaks ties varies.

    Args:
        folder: Folder for the three files.
        filled_to: Tokens that no text has are added up to this number, where it is more: a published model has them.

    Returns:
        The size of the vocabulary.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    normalizer, cut = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = {word for sentence in SENTENCES for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(sentence))}
    letters = string.ascii_lowercase + string.digits
    characters = [*letters, *string.punctuation, *(f"##{letter}" for letter in letters)]
    tokens = list(dict.fromkeys([*BERT_SPECIAL_TOKENS, *characters, *sorted(words)]))
    tokens += [f"[unused-{number}]" for number in range(len(tokens), filled_to)]
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab=numbers, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, cut
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", numbers["[SEP]"]), ("[CLS]", numbers["[CLS]"]))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_config(folder, tokenizer_class="BertTokenizer", do_lower_case=True, model_max_length=512)
    return len(tokens)


def _byte_level_bpe(folder: Path, special_tokens: tuple[str, ...], filled_to: int) -> Any:
    """A trained tokenizer, its vocab.json and merges.txt written; the special tokens have the first ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_TRAINED_TOKENS,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if filled_to:
        described = json.loads(tokenizer.to_str())["model"]
        filling = {f"<unused-{number}>": number for number in range(tokenizer.get_vocab_size(), filled_to)}
        merges = [tuple(merge) for merge in described["merges"]]
        tokenizer.model = models.BPE(vocab=described["vocab"] | filling, merges=merges)
    tokenizer.model.save(str(folder))
    return tokenizer


def _write_config(folder: Path, **config: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
