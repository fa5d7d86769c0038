"""BERT, sentence, speaker and pronunciation encoders of small size; the real weights are in tests/parity/test_pretrained.py."""

import json

import numpy as np
import pytest

import pydl
from pydl import models
from pydl.errors import ArgumentError, ShapeError
from pydl.models.g2p import LETTERS, PHONEMES, spell
from pydl.nn.module import StateDictError
from pydl.train import CheckpointError

CONFIG = {
    "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 10, "type_vocab_size": 2, "model_type": "bert", "hidden_act": "gelu",
}  # fmt: skip


def bert(**more):
    return models.Bert(20, 8, 2, 2, 12, 10, **more)


def published(model):
    """The state under Hugging Face's names."""
    names = [("self_attn.out_proj", "attention.output.dense"), ("norm1", "attention.output.LayerNorm"),
             ("linear1", "intermediate.dense"), ("linear2", "output.dense"), ("norm2", "output.LayerNorm"),
             ("encoder.layers", "encoder.layer"), ("pooler", "pooler.dense")]  # fmt: skip
    state = {}
    for key, value in model.state_dict().items():
        for own, theirs in names:
            key = key.replace(own, theirs)
        if "in_proj_" not in key:
            state[key] = value
            continue
        for part, piece in zip(("query", "key", "value"), pydl.chunk(value, 3), strict=True):
            state[key.replace("self_attn.in_proj_", f"attention.self.{part}.")] = piece.contiguous()
    return state


# --------------------------------------------------------------------------- BERT


def test_sizes_of_bert():
    with pydl.nn.init.skip():
        assert sum(p.numel() for p in models.Bert().parameters()) == 109_482_240
    weight = bert().encoder.layers[0].linear1.weight.detach().numpy()
    assert abs(weight.std() - 0.02) < 0.006


def test_padding_changes_nothing():
    model = bert().eval()
    ids = pydl.tensor([[1, 5, 6, 2, 0, 0], [1, 7, 8, 9, 3, 2]])
    mask = pydl.tensor([[1, 1, 1, 1, 0, 0], [1] * 6])
    both = model(ids, mask)
    np.testing.assert_allclose(both[:1, :4].detach().numpy(), model(ids[:1, :4]).detach().numpy(), atol=1e-6)
    changed = ids.clone()
    changed[0, 4:] = 11
    np.testing.assert_array_equal(model(changed, mask)[0, :4].detach().numpy(), both[0, :4].detach().numpy())
    assert np.abs(model(changed)[0, :4].detach().numpy() - both[0, :4].detach().numpy()).max() > 1e-3
    types = pydl.tensor([[0, 0, 0, 1, 1, 1]] * 2)
    assert np.abs((model(ids, mask, types) - both).detach().numpy()).max() > 1e-3
    np.testing.assert_array_equal(model(ids, mask, types * 0).detach().numpy(), both.detach().numpy())
    assert model.pool(both).shape == (2, 8)


def test_every_parameter_learns():
    model = bert(padding_idx=None)
    ids = pydl.tensor(np.arange(20).reshape(2, 10))
    (model.pool(model(ids, pydl.ones(2, 10), pydl.tensor([[0, 1] * 5] * 2))) ** 2).sum().backward()
    for name, p in model.named_parameters():
        assert np.abs(p.grad.numpy()).max() > 0, name


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_published_names(tmp_path, prefix):
    model = bert()
    state = {prefix + k: v for k, v in published(model).items()}
    assert prefix + "encoder.layer.1.attention.self.key.bias" in state
    state[prefix + "embeddings.position_ids"] = pydl.arange(10)
    state["cls.predictions.bias"] = pydl.zeros(20)
    if prefix:
        state = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
                 for k, v in state.items()}
    pydl.save(state, tmp_path / "b.safetensors")
    other = models.load_weights(models.Bert.from_config(CONFIG), tmp_path / "b.safetensors")
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key].numpy(), value.numpy())
    state.pop(prefix + "encoder.layer.0.attention.self.key.bias")
    pydl.save(state, tmp_path / "part.safetensors")
    with pytest.raises(StateDictError, match=r"part.safetensors: .*missing: encoder.layers.0.self_attn.in_proj_bias"):
        models.load_weights(other, tmp_path / "part.safetensors")
    with pytest.raises(StateDictError, match=r"b.safetensors: .*word_embeddings.weight is \(20, 8\)"):
        models.load_weights(models.Bert(21, 8, 2, 2, 12, 10), tmp_path / "b.safetensors")


def test_errors_of_bert():
    model = bert()
    ids = pydl.tensor([[1, 2, 3]])
    for arguments, match in (
        ((pydl.tensor([1, 2]),), r"input_ids of shape \(2,\), expected \(N, T\)"),
        ((pydl.zeros(2, 0, dtype=pydl.int64),), r"shape \(2, 0\)"),
        ((pydl.zeros(1, 11, dtype=pydl.int64),), "11 tokens, but positions are learnt for 10"),
        ((ids, pydl.ones(1, 2)), r"attention_mask of shape \(1, 2\), expected that of input_ids, \(1, 3\)"),
        ((ids, None, pydl.ones(2, 3)), r"token_type_ids of shape \(2, 3\)"),
    ):
        with pytest.raises(ShapeError, match=match):
            model(*arguments)
    with pytest.raises(ArgumentError, match=r"index 20 at position \(0, 1\)"):
        model(pydl.tensor([[1, 20]]))
    with pytest.raises(ArgumentError, match="hidden_act='relu', expected 'gelu'"):
        models.Bert.from_config(CONFIG | {"hidden_act": "relu"})
    with pytest.raises(ArgumentError, match="no vocab_size, hidden_size"):
        models.Bert.from_config({})


# --------------------------------------------------------------------------- sentences


def word_tokenizer():
    tokenizers = pytest.importorskip("tokenizers")
    words = {w: i for i, w in enumerate("[PAD] [UNK] a b c d e f g h i j k l m n o p q r".split())}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return tokenizer


def test_sentences(tmp_path):
    encoder = models.SentenceEncoder(bert(), word_tokenizer(), max_length=6)
    texts = ["a b", "c", "d e f g h", "a b c d e f g h i j k", "zzz b"]
    vectors = encoder.encode(texts, batch_size=2)
    assert encoder.training
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):  # batches and their padding change nothing
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(["a b c d e f"])[0], vectors[3], atol=1e-6)  # cut after six
    outputs = encoder.eval().bert(pydl.tensor([[2, 3]])).detach().numpy()[0].mean(0)
    np.testing.assert_allclose(vectors[0], outputs / np.linalg.norm(outputs), atol=1e-6)
    assert encoder.encode([]).shape == (0, 8)

    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    encoder.tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ArgumentError, match=r"no model.safetensors in"):
        models.SentenceEncoder.from_folder(tmp_path)
    pydl.save(published(encoder.bert), tmp_path / "model.safetensors")
    np.testing.assert_allclose(models.SentenceEncoder.from_folder(tmp_path).encode(texts), vectors, atol=1e-6)


def test_errors_of_sentences():
    encoder = models.SentenceEncoder(bert())
    with pytest.raises(ArgumentError, match="it has no tokenizer"):
        encoder.encode(["a"])
    with pytest.raises(ArgumentError, match="expected a list of texts"):
        encoder.encode("a")
    with pytest.raises(ArgumentError, match="leaves no token in row 1"):
        encoder(pydl.tensor([[1, 2], [3, 4]]), pydl.tensor([[1, 0], [0, 0]]))


# --------------------------------------------------------------------------- speakers


def test_speaker_windows():
    model = models.SpeakerEncoder(4, 6, 2, 5).eval()
    mel = np.random.default_rng(0).random((50, 4), np.float32)

    def mean(*starts):
        padded = np.concatenate([mel, np.zeros((20, 4), np.float32)])
        with pydl.no_grad():
            v = model(pydl.from_numpy(np.stack([padded[s : s + 20] for s in starts]))).numpy().mean(0)
        return v / np.linalg.norm(v)

    np.testing.assert_allclose(model.embed(mel, 20, 10), mean(0, 10, 20, 30), atol=1e-6)
    np.testing.assert_allclose(model.embed(mel, 20, 12), mean(0, 12, 24), atol=1e-6)  # 14 frames of 20 are too few
    np.testing.assert_allclose(model.embed(mel, 20, 12, 0.5), mean(0, 12, 24, 36), atol=1e-6)
    np.testing.assert_allclose(model.embed(mel[:3], 20, 10), model.embed(np.pad(mel[:3], ((0, 17), (0, 0))), 20, 10), atol=1e-6)
    for wrong in (np.zeros((5, 3), np.float32), np.zeros((0, 4), np.float32), np.zeros(4, np.float32)):
        with pytest.raises(ShapeError, match=r"expected \(T, 4\)"):
            model.embed(wrong)
    with pytest.raises(ArgumentError, match="coverage=2"):
        model.embed(mel, coverage=2)
    scores = model.similarity(pydl.eye(5)[:2], pydl.eye(5))
    np.testing.assert_allclose(scores.detach().numpy(), 10 * np.eye(5)[:2] - 5)


# --------------------------------------------------------------------------- pronunciations


def test_symbols():
    assert (len(LETTERS), len(PHONEMES)) == (29, 74)
    assert (PHONEMES[4], PHONEMES[22], PHONEMES[65], PHONEMES[-1]) == ("AA0", "B", "UW", "ZH")
    letters, lengths = spell(["Ab", "z-"])
    assert letters.tolist() == [[3, 4, 2], [28, 1, 2]]
    assert lengths.tolist() == [3, 3]


def test_words_in_a_batch_are_words_alone():
    model = models.GraphemeToPhoneme(hidden_size=12).eval()
    with pydl.no_grad():
        for p in model.parameters():
            p.mul_(4.0)  # sharp enough to differ from word to word
    words = ["a", "banana", "Zz", "cherry-tree"]
    found = model.predict(words, longest=9)
    assert len({tuple(f) for f in found}) > 1
    assert [model.predict([w], longest=9)[0] for w in words] == found
    assert all(len(f) <= 9 for f in found)
    assert model.predict([]) == []
    for wrong in ("word", ["a", ""]):
        with pytest.raises(ArgumentError, match="a list of words, none of them empty"):
            model.predict(wrong)
    letters, lengths = spell(["ab", "c"])
    scores = model(pydl.from_numpy(letters), lengths, pydl.tensor([[2, 5, 6], [2, 7, 0]]))
    assert scores.shape == (2, 3, 74)


def test_arrays_of_numpy(tmp_path):
    model = models.GraphemeToPhoneme(hidden_size=4)
    arrays = {}
    for key, value in model.state_dict().items():
        coder, _, rest = key.partition(".")
        coder = coder.replace("encoder", "enc").replace("decoder", "dec").replace("embedding", "emb")
        rest = "" if coder.endswith("emb") else "_" + rest.replace("weight", "w").replace("bias", "b").replace("_l0", "")
        arrays[coder + rest] = value.numpy()
    assert {"enc_emb", "enc_w_ih", "dec_b_hh", "fc_w", "fc_b"} <= set(arrays)
    np.savez(tmp_path / "g.npz", **arrays)
    other = models.load_weights(models.GraphemeToPhoneme(hidden_size=4), tmp_path / "g.npz")
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key].numpy(), value.numpy())
    arrays["fc_x"] = arrays.pop("fc_b")
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(StateDictError, match=r"wrong.npz: .*missing: fc.bias.*unexpected: fc_x"):
        models.load_weights(other, tmp_path / "wrong.npz")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], object))
    whole = (tmp_path / "g.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("pickled", "cut"):
        with pytest.raises(CheckpointError, match=f"{name}.npz is damaged or no archive of arrays"):
            models.load_weights(other, tmp_path / f"{name}.npz")
    with pytest.raises(CheckpointError, match=r"none.npz cannot be read"):
        models.load_weights(other, tmp_path / "none.npz")
