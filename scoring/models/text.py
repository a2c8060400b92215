"""Text: hashed words as tokens, and a small bag-of-embeddings classifier.

``HashedWords`` turns a text into (length,) token numbers without a vocabulary to keep: each word's number is a hash
(Weinberger et al. 2009), 0 is padding. ``BagOfEmbeddings`` embeds the tokens, takes their mean weighted by attention
(Bahdanau et al. 2015), and classifies it: the order of the words does not matter. With a_t = softmax(w·e_t) over the
tokens that are no padding,

    logits = head( GELU( W Σ_t a_t e_t ) )

The weights are what makes its input gradients differ from word to word: of a plain mean they are all equal, and so
would be the VoG of all words of a text.

A tokenizer of your own is any ``transform``: text → (length,) integers. Where it also has ``spans(text)``, the
(start, end) characters of each token, an opened example shows which words it is unsure about.

Cost: one pass over the text; buckets × width parameters. Limits: words that share a bucket share a vector; what lies
beyond ``length`` tokens is not read.
"""

from __future__ import annotations

import re
import zlib

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError

WORD = re.compile(r"\w+|[^\w\s]")
PADDING = 0


class HashedWords:
    """Text → (length,) int64: words and signs as hashes in 1 … buckets − 1, then 0s."""

    padding_id = PADDING

    def __init__(self, length: int = 256, buckets: int = 16384):
        for name, value, least in (("length", length, 1), ("buckets", buckets, 2)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise HardlookError(f"transform.{name} = {value!r}; needed a whole number of at least {least}")
        self.length, self.buckets = length, buckets

    def __call__(self, text: str) -> Tensor:
        """The token numbers of a text.

        >>> tokens = HashedWords(length=4)("Good, good")
        >>> bool(tokens[0] == tokens[2]), int(tokens[3])
        (True, 0)
        """
        numbers = torch.zeros(self.length, dtype=torch.int64)
        for at, (start, end) in enumerate(self.spans(text)):
            word = text[start:end].casefold().encode("utf8", "surrogatepass")
            numbers[at] = 1 + zlib.crc32(word) % (self.buckets - 1)
        return numbers

    def spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each token in the text, at most ``length``.

        >>> HashedWords().spans("Good, good")
        [(0, 4), (4, 5), (6, 10)]
        """
        if not isinstance(text, str):
            raise HardlookError(f"the transform got {type(text).__name__}; needed a text")
        found: list[tuple[int, int]] = []
        for match in WORD.finditer(text):
            if len(found) == self.length:
                break
            found.append(match.span())
        return found


class BagOfEmbeddings(nn.Module):
    """A small text classifier: (n, tokens) integers, 0 = padding → (n, classes) logits.

    ``buckets`` must be the transform's. VoG is the mean over the words of a text; padding is left out.
    """

    def __init__(self, classes: int, buckets: int = 16384, width: int = 64, hidden: int = 64):
        super().__init__()
        self.embedding = nn.Embedding(buckets, width, padding_idx=PADDING)
        self.attention = nn.Linear(width, 1, bias=False)
        self.block = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.head = nn.Linear(hidden, classes)
        nn.init.normal_(self.embedding.weight, std=0.3)
        with torch.no_grad():
            self.embedding.weight[PADDING] = 0

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits; a text without tokens is a vector of zeros."""
        embedded = self.embedding(tokens)
        weights = self.attention(embedded).squeeze(-1)
        weights = weights.masked_fill(tokens == PADDING, torch.finfo(weights.dtype).min).softmax(1)
        return self.head(self.block((weights.unsqueeze(1) @ embedded).squeeze(1)))
