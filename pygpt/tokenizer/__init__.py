"""Text to token ids and back, by the vocabulary that a checkpoint brings."""

from pygpt.tokenizer.decoding import StreamDecoder
from pygpt.tokenizer.tokenizer import EXTRA_FILES, FILES, Tokenizer, saved_files, with_ready

__all__ = ["EXTRA_FILES", "FILES", "StreamDecoder", "Tokenizer", "saved_files", "with_ready"]
