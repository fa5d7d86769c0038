"""Text as numbers: vocabularies, tokenizers, batches of sequences, and the figures that models of text are judged by."""

from pydl.ops.index import one_hot
from pydl.text.batches import BPTTBatches, BucketSampler, PadCollate, pad_ids
from pydl.text.metrics import (
    BLEU,
    BitsPerToken,
    BLEUScore,
    Perplexity,
    TokenErrorRate,
    bleu,
    edit_distance,
    sentence_bleu,
    token_error_rate,
)
from pydl.text.ngram import NGramModel
from pydl.text.seq2seq import Seq2SeqTrainer, sequence_cross_entropy, transduce
from pydl.text.subword import SubwordTokenizer
from pydl.text.tokenizers import CharTokenizer, Tokenizer, WordTokenizer, load_tokenizer
from pydl.text.training import LanguageModelTrainer, TeacherForcing, detach_state
from pydl.text.vocabulary import SPECIALS, Vocabulary

__all__ = [
    "BLEU", "BLEUScore", "BPTTBatches", "BitsPerToken", "BucketSampler", "CharTokenizer", "LanguageModelTrainer",
    "NGramModel", "PadCollate", "Perplexity", "SPECIALS", "Seq2SeqTrainer", "SubwordTokenizer", "TeacherForcing",
    "TokenErrorRate", "Tokenizer", "Vocabulary", "WordTokenizer", "bleu", "detach_state", "edit_distance", "load_tokenizer",
    "one_hot", "pad_ids", "sentence_bleu", "sequence_cross_entropy", "token_error_rate", "transduce",
]
