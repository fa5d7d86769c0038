"""Encoder-decoders against the same networks written with PyTorch's modules, same weights: logits, gradients, training."""

import numpy as np
import pytest

import pydl
from pydl import optim
from pydl.models import Seq2Seq, TransformerSeq2Seq
from pydl.text import sequence_cross_entropy

torch = pytest.importorskip("torch")
F = torch.nn.functional
LENGTHS = [6, 2, 4]


class Peer(torch.nn.Module):
    """Attention by its formulas; names as pydl's, so that a state dictionary fits."""

    def __init__(self, model, cell):
        super().__init__()
        self.method, self.fed = model.method, model.input_feeding
        self.context = model.feed_context
        kind = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
        for prefix, ours in (("encoder", model.encoder), ("decoder", model)):
            r = ours.rnn
            setattr(self, f"{prefix}_rnn", kind(r.input_size, r.hidden_size, r.num_layers, batch_first=True,
                                                bidirectional=r.bidirectional))  # fmt: skip
        self.rest = torch.nn.ParameterDict()
        for name, p in model.named_parameters():
            value = torch.tensor(p.data)
            if ".rnn." in f".{name}":
                where = self.encoder_rnn if name.startswith("encoder") else self.decoder_rnn
                getattr(where, name.rpartition(".")[2]).data = value
            else:
                self.rest[name.replace(".", "/")] = torch.nn.Parameter(value)
        self.names = [n for n, _ in model.named_parameters()]

    def get(self, name):
        if ".rnn." in f".{name}":
            return getattr(self.encoder_rnn if name.startswith("encoder") else self.decoder_rnn, name.rpartition(".")[2])
        return self.rest[name.replace(".", "/")]

    def linear(self, name, x):
        return F.linear(x, self.get(f"{name}.weight"), self.rest.get(f"{name}/bias".replace(".", "/")))

    def attend(self, query, memory, blocked):
        if self.method == "dot":
            scores = torch.einsum("nq,nsq->ns", query, memory)
        elif self.method == "general":
            scores = torch.einsum("nq,qk,nsk->ns", query, self.get("attention.weight"), memory)
        elif self.method == "concat":
            both = torch.cat([query[:, None].expand(-1, memory.shape[1], -1), memory], -1)
            scores = self.linear("attention.score_layer", torch.tanh(both @ self.get("attention.weight").T))[..., 0]
        else:
            hidden = self.linear("attention.query_layer", query)[:, None] + self.linear("attention.key_layer", memory)
            scores = self.linear("attention.score_layer", torch.tanh(hidden))[..., 0]
        return torch.einsum("ns,nsk->nk", scores.masked_fill(blocked, -torch.inf).softmax(-1), memory)

    def forward(self, source, lengths, target):
        x = F.embedding(source, self.get("encoder.embedding.weight"), padding_idx=0)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        out, last = self.encoder_rnn(packed)
        memory, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        last = last if isinstance(last, tuple) else (last,)
        if self.encoder_rnn.bidirectional:
            last = [torch.cat([s[0::2], s[1::2]], -1) for s in last]
        summary = last[0][-1]
        if any(n.startswith("bridge") for n in self.names):
            last = [torch.tanh(self.linear(f"bridge.{i}", s)) for i, s in enumerate(last)]
        state = tuple(s.contiguous() for s in last)
        state = state if len(state) == 2 else state[0]
        blocked = torch.arange(memory.shape[1]) >= torch.tensor(lengths)[:, None]
        fed = torch.zeros(len(source), self.decoder_rnn.hidden_size, dtype=memory.dtype)
        logits = []
        for t in range(target.shape[1]):
            embedded = F.embedding(target[:, t], self.get("embedding.weight"), padding_idx=0)
            x, context = [embedded], None
            if self.method == "bahdanau":
                context = self.attend((state[0] if isinstance(state, tuple) else state)[-1], memory, blocked)
                x.append(context)
            elif self.context:
                x.append(summary)
            elif self.fed:
                x.append(fed)
            out, state = self.decoder_rnn(torch.cat(x, -1)[:, None], state)
            top = out[:, 0]
            if self.method == "bahdanau":
                top = torch.tanh(self.linear("readout", torch.cat([top, context, embedded], -1)))
            elif self.method is not None:
                fed = top = torch.tanh(self.linear("readout", torch.cat([self.attend(top, memory, blocked), top], -1)))
            logits.append(self.linear("output", top))
        return torch.stack(logits, 1)


def data(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.integers(1, 15, (3, 6)), rng.integers(1, 12, (3, 5))
    for row, n in zip(source, LENGTHS, strict=True):
        row[n:] = 0
    target[1, 3:] = 0
    return source, target


CASES = [
    ("gru", {"attention": None}), ("lstm", {"attention": None, "num_layers": 2}),
    ("gru", {"attention": None, "feed_context": True}), ("lstm", {"attention": "bahdanau"}),
    ("gru", {"attention": "bahdanau", "num_layers": 2}), ("lstm", {"attention": "dot", "bidirectional": False}),
    ("gru", {"attention": "general"}), ("gru", {"attention": "concat"}),
    ("lstm", {"attention": "general", "input_feeding": True}),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "options"), CASES, ids=[f"{c}-{o['attention']}-{i}" for i, (c, o) in enumerate(CASES)])
def test_recurrent(cell, options):
    """Values and all gradients in float64, then 20 steps of Adam."""
    pydl.manual_seed(3)
    mine = Seq2Seq(15, 12, 6, 8, cell=cell, **options).double()
    peer = Peer(mine, cell)
    ours = optim.Adam(mine.parameters(), lr=1e-2)
    theirs = torch.optim.Adam([peer.get(n) for n in peer.names], lr=1e-2)
    for step in range(20):
        source, target = data(step)
        y = mine(source, LENGTHS, target)
        t = peer(torch.tensor(source), LENGTHS, torch.tensor(target))
        np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), rtol=1e-7, atol=1e-9)
        ours.zero_grad()
        theirs.zero_grad()
        sequence_cross_entropy(y, pydl.tensor(target), label_smoothing=0.1).backward()
        F.cross_entropy(t.flatten(0, 1), torch.tensor(target).flatten(), ignore_index=0, label_smoothing=0.1).backward()
        for name, p in mine.named_parameters():
            np.testing.assert_allclose(p.grad.numpy(), peer.get(name).grad.numpy(), rtol=1e-6, atol=1e-9, err_msg=name)
        ours.step()
        theirs.step()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # PyTorch says that it leaves a short cut out
@pytest.mark.parametrize("options", [{}, {"norm_first": True, "activation": "gelu"}, {"tie": "output"}, {"tie": "all"}],
                         ids=["post", "pre", "output", "all"])  # fmt: skip
def test_transformer(options):
    """torch.nn.Transformer with embeddings and positions by the formula; values, gradients, 20 steps."""
    pydl.manual_seed(3)
    size = 15 if options.get("tie") == "all" else 12
    mine = TransformerSeq2Seq(15, size, 8, 2, 2, 2, 16, 0.0, **options).double()
    plain = {k: v for k, v in options.items() if k != "tie"}
    peer = torch.nn.Transformer(8, 2, 2, 2, 16, 0.0, batch_first=True, dtype=torch.float64, **plain)
    named = dict(mine.named_parameters())
    peer.load_state_dict({n.removeprefix("transformer."): torch.tensor(p.data) for n, p in named.items()
                          if n.startswith("transformer.")})  # fmt: skip
    rest = {n: torch.nn.Parameter(torch.tensor(p.data)) for n, p in named.items() if not n.startswith("transformer.")}
    table = rest.get("target_embedding.weight", rest["source_embedding.weight"])
    t, i = np.arange(6)[:, None], np.arange(4)
    angle = t / 10000 ** (2 * i / 8)
    pe = torch.tensor(np.stack([np.sin(angle), np.cos(angle)], -1).reshape(6, 8).astype(np.float32).astype(float))
    blocked = torch.arange(6) >= torch.tensor(LENGTHS)[:, None]
    both = {f"transformer.{n}": p for n, p in peer.named_parameters()} | rest
    ours, theirs = optim.Adam(mine.parameters(), lr=1e-2), torch.optim.Adam(both.values(), lr=1e-2)
    for step in range(20):
        source, target = data(step)
        y = mine(source, LENGTHS, target)
        a, b = (F.embedding(torch.tensor(x), w, padding_idx=0) * 8**0.5 + pe[: x.shape[1]]
                for x, w in ((source, rest["source_embedding.weight"]), (target, table)))  # fmt: skip
        causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
        out = peer(a, b, tgt_mask=causal, src_key_padding_mask=blocked, memory_key_padding_mask=blocked)
        z = F.linear(out, rest.get("output.weight", table), rest.get("output.bias"))
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-6, atol=1e-8)
        ours.zero_grad()
        theirs.zero_grad()
        sequence_cross_entropy(y, pydl.tensor(target)).backward()
        F.cross_entropy(z.flatten(0, 1), torch.tensor(target).flatten(), ignore_index=0).backward()
        for name, p in both.items():
            np.testing.assert_allclose(named[name].grad.numpy(), p.grad.numpy(), rtol=1e-5, atol=1e-9, err_msg=name)
        ours.step()
        theirs.step()
