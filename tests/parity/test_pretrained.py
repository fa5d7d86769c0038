"""The real pretrained weights, out of the packages that carry them: outputs equal to those of other implementations."""

import json

import numpy as np
import pytest

import pydl
from pydl import models
from pydl.data import DatasetNotFoundError
from pydl.data.fetch import FetchError
from pydl.models.g2p import LETTERS, PHONEMES

TEXTS = [
    "The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.", "x",
    "Naïve café, 日本語 and ünknown 🙂",
    "A recurrent network reads a sentence word by word; attention looks at all of its words at once. " * 3,
]  # fmt: skip


def fetched(name):
    try:
        return models.fetch_pretrained(name, download=True)
    except (FetchError, DatasetNotFoundError) as error:
        pytest.skip(f"the package cannot be had: {error}")


# --------------------------------------------------------------------------- sentence encoder


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("tokenizers")
    return models.SentenceEncoder.from_folder(fetched("minilm"))


def test_published_similarities(minilm):
    """The cosines that the documentation of Sentence Transformers prints for this model."""
    v = minilm.encode(TEXTS[:3])
    np.testing.assert_allclose(v @ v.T, [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]], atol=1e-4)
    assert sum(p.numel() for p in minilm.parameters()) == 22_713_216


def bert_by_torch(torch, folder, ids, mask):
    """Sentence vectors by the formulas of the papers, one head at a time, on the file's own names."""
    from safetensors.torch import load_file

    w, f = load_file(folder / "model.safetensors"), torch.nn.functional
    config = json.loads((folder / "config.json").read_text())
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]

    def linear(name, x):
        return f.linear(x, w[name + ".weight"], w[name + ".bias"])

    def norm(name, x):
        return f.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps)

    e = "embeddings."
    x = w[e + "word_embeddings.weight"][ids] + w[e + "position_embeddings.weight"][: ids.shape[1]]
    x = norm(e + "LayerNorm", x + w[e + "token_type_embeddings.weight"][0])
    hidden = (1 - mask[:, None, :].float()) * -1e30
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        q, k, v = (linear(f"{p}attention.self.{n}", x).chunk(heads, -1) for n in ("query", "key", "value"))
        found = [
            torch.softmax(a @ b.transpose(1, 2) / a.shape[-1] ** 0.5 + hidden, -1) @ c for a, b, c in zip(q, k, v, strict=True)
        ]
        x = norm(p + "attention.output.LayerNorm", x + linear(p + "attention.output.dense", torch.cat(found, -1)))
        x = norm(p + "output.LayerNorm", x + linear(p + "output.dense", f.gelu(linear(p + "intermediate.dense", x))))
    mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    return x, f.normalize(mean, dim=1)


def test_sentence_vectors_beside_torch(minilm):
    torch = pytest.importorskip("torch")
    ids, mask = minilm.tokenize(TEXTS)
    assert mask.numpy().min() == 0  # texts of unequal lengths
    folder = models.fetch_pretrained("minilm")
    with torch.no_grad():
        outputs, expected = bert_by_torch(torch, folder, torch.tensor(ids.numpy()), torch.tensor(mask.numpy()))
    with pydl.no_grad():
        own = minilm.bert(ids, mask).numpy()
    real = mask.numpy() == 1
    np.testing.assert_allclose(own[real], outputs.numpy()[real], atol=1e-4)
    np.testing.assert_allclose(minilm.encode(TEXTS), expected.numpy(), atol=1e-5)


def test_sentence_vectors_beside_transformers(minilm):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = models.fetch_pretrained("minilm")
    tokenizer = transformers.BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    model = transformers.BertModel.from_pretrained(folder).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        x, mask = model(**batch).last_hidden_state, batch["attention_mask"][:, :, None]
    expected = torch.nn.functional.normalize((x * mask).sum(1) / mask.sum(1), dim=1)
    np.testing.assert_allclose(minilm.encode(TEXTS), expected.numpy(), atol=1e-4)


def test_training_step_beside_torch(minilm):
    """Gradients of all weights through all layers, for one loss on the real weights."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(384, 12, 1536, 0.0, "gelu", 1e-12, batch_first=True)
    peer = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    peer.load_state_dict({k: torch.tensor(v.numpy()) for k, v in minilm.bert.encoder.state_dict().items()})
    ids, mask = minilm.tokenize(TEXTS[:4])
    minilm.zero_grad()
    x = pydl.from_numpy(minilm.bert.embeddings(ids).detach().numpy())
    y = minilm.bert.encoder(x, src_key_padding_mask=mask == 0)
    weight = mask.numpy()[:, :, None].astype(np.float32)
    ((y * pydl.from_numpy(weight)) ** 3).sum().backward()
    expected = peer(torch.tensor(x.numpy()), src_key_padding_mask=torch.tensor(mask.numpy() == 0))
    ((expected * torch.tensor(weight)) ** 3).sum().backward()
    for (name, p), q in zip(minilm.bert.encoder.named_parameters(), peer.parameters(), strict=True):
        scale = q.grad.abs().max().item()
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), atol=2e-4 * scale, err_msg=name)
    minilm.zero_grad()


# --------------------------------------------------------------------------- speaker encoder


def test_speaker_encoder_beside_torch():
    torch = pytest.importorskip("torch")
    path = fetched("speaker_encoder")
    model = models.load_pretrained("speaker_encoder")
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    lstm.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("lstm.")})
    linear.load_state_dict({k[7:]: v for k, v in state.items() if k.startswith("linear.")})
    mels = np.random.default_rng(0).gamma(0.3, 1.0, (3, 160, 40)).astype(np.float32)
    with torch.no_grad():
        raw = torch.relu(linear(lstm(torch.tensor(mels))[1][0][-1]))
        expected = (raw / raw.norm(dim=1, keepdim=True)).numpy()
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    with pydl.no_grad():
        np.testing.assert_allclose(model(pydl.from_numpy(mels)).numpy(), expected, atol=1e-5)
        short = model(pydl.from_numpy(mels), lengths=[160, 100, 7]).numpy()
        np.testing.assert_allclose(short[2], model(pydl.from_numpy(mels[2:, :7])).numpy()[0], atol=1e-6)
    assert model.similarity_weight.item() == state["similarity_weight"].item()


# --------------------------------------------------------------------------- pronunciations


def spoken(weights, word):
    """The decoding of the package g2p-en, written out in NumPy for one word."""

    def step(x, h, part):
        gates_x = weights[part + "_w_ih"] @ x + weights[part + "_b_ih"]
        gates_h = weights[part + "_w_hh"] @ h + weights[part + "_b_hh"]
        n = len(h)
        r, z = (1 / (1 + np.exp(-gates_x[s] - gates_h[s])) for s in (slice(n), slice(n, 2 * n)))
        return (1 - z) * np.tanh(gates_x[2 * n :] + r * gates_h[2 * n :]) + z * h

    h = np.zeros(256)
    for letter in [*word, "</s>"]:
        h = step(weights["enc_emb"][LETTERS.index(letter) if letter in LETTERS else 1], h, "enc")
    found, last = [], 2
    while len(found) < 20:
        h = step(weights["dec_emb"][last], h, "dec")
        last = int((weights["fc_w"] @ h + weights["fc_b"]).argmax())
        if last == 3:
            break
        found.append(PHONEMES[last])
    return found


def test_pronunciations():
    weights = {k: v.astype(np.float64) for k, v in np.load(fetched("g2p")).items()}
    model = models.load_pretrained("g2p")
    words = ("shakespeare activationist phoneme rhythm knight colonel supercalifragilisticexpialidocious o'clock naïve x zebra "
             "backpropagation transformer attention gradient kernel tokenizer").split()  # fmt: skip
    found = model.predict(words)
    assert found[0] == "SH EY1 K S P IY2 R".split()
    assert found == [spoken(weights, word) for word in words]
