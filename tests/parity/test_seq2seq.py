"""Encoder-decoders against the same networks written plainly in PyTorch: logits, alignments and all gradients."""

import numpy as np
import pytest

import pydl
from pydl.models import Seq2Seq
from pydl.text import sequence_cross_entropy

torch = pytest.importorskip("torch")
F = torch.nn.functional
LENGTHS = [6, 2, 4]



def plain(w, method, source, target, fed, factor):
    """One step at a time, one sentence at a time without padding: nothing to mask, nothing to pack."""
    h = w["encoder.rnn.weight_hh_l0"].shape[1]

    def gru(prefix, suffix, x, state):
        gi = w[f"{prefix}.weight_ih_l0{suffix}"] @ x + w[f"{prefix}.bias_ih_l0{suffix}"]
        gh = w[f"{prefix}.weight_hh_l0{suffix}"] @ state + w[f"{prefix}.bias_hh_l0{suffix}"]
        r, z = torch.sigmoid(gi[:h] + gh[:h]), torch.sigmoid(gi[h : 2 * h] + gh[h : 2 * h])
        return (1 - z) * torch.tanh(gi[2 * h :] + r * gh[2 * h :]) + z * state

    def attend(query, memory):
        if method == "bahdanau":
            hidden = torch.tanh(w["attention.query_layer.weight"] @ query + memory @ w["attention.key_layer.weight"].T
                                + w["attention.key_layer.bias"])
            scores = hidden @ w["attention.score_layer.weight"][0]
        elif method == "concat":
            both = torch.cat([query.expand(len(memory), -1), memory], 1)
            scores = torch.tanh(both @ w["attention.weight"].T) @ w["attention.score_layer.weight"][0]
        else:
            scores = factor * (memory @ (w["attention.weight"].T @ query) if method == "general" else memory @ query)
        share = torch.softmax(scores, 0)
        return share @ memory, share

    outputs = []
    read = w["encoder.embedding.weight"][source]
    for x in (read,) if method == "dot" else (read, read.flip(0)):
        state, states = torch.zeros(h, dtype=x.dtype), []
        for step in x:
            state = gru("encoder.rnn", "_reverse" if outputs else "", step, state)
            states.append(state)
        outputs.append(torch.stack(states))
    if method == "dot":
        memory = outputs[0]
        state = memory[-1]
    else:
        memory = torch.cat([outputs[0], outputs[1].flip(0)], 1)
        state = torch.tanh(w["bridge.0.weight"] @ torch.cat([outputs[0][-1], outputs[1][-1]]) + w["bridge.0.bias"])
    feed, logits, shares = torch.zeros(h, dtype=memory.dtype), [], []
    for symbol in target:
        y = w["embedding.weight"][symbol]
        if method == "bahdanau":
            context, share = attend(state, memory)
            state = gru("rnn", "", torch.cat([y, context]), state)
            top = torch.tanh(w["readout.weight"] @ torch.cat([state, context, y]) + w["readout.bias"])
        else:
            state = gru("rnn", "", torch.cat([y, feed]) if fed else y, state)
            context, share = attend(state, memory)
            top = feed = torch.tanh(w["readout.weight"] @ torch.cat([context, state]))
        logits.append(w["output.weight"] @ top + w["output.bias"])
        shares.append(share)
    return torch.stack(logits), torch.stack(shares)


@pytest.mark.parametrize("options", [
    {"attention": "bahdanau"}, {"attention": "dot", "bidirectional": False}, {"attention": "general"}, {"attention": "concat"},
    {"attention": "general", "input_feeding": True}, {"attention": "general", "scaled": True},
    {"attention": "dot", "bidirectional": False, "scaled": True},
], ids=lambda options: "-".join(map(str, options.values())))  # fmt: skip
def test_recurrent_encoder_decoders(options):
    method, fed, scaled = options["attention"], options.get("input_feeding", False), options.get("scaled", False)
    rng = np.random.default_rng(0)
    pydl.manual_seed(0)
    model = Seq2Seq(12, 9, 5, 7, **options).double()
    factor = model.encoder.output_size**-0.5 if scaled else 1.0
    theirs = {n: torch.tensor(p.data.copy(), requires_grad=True) for n, p in model.named_parameters()}
    source, target = np.zeros((3, 6), np.int64), rng.integers(1, 9, (3, 5))
    for row, n in zip(source, LENGTHS, strict=True):
        row[:n] = rng.integers(1, 12, n)
    logits, shares = model(source, LENGTHS, target[:, :-1], need_weights=True)
    loss = sequence_cross_entropy(logits, pydl.tensor(target[:, 1:]))
    loss.backward()
    total = 0.0
    for i, n in enumerate(LENGTHS):
        found, where = plain(theirs, method, torch.tensor(source[i, :n]), torch.tensor(target[i, :-1]), fed, factor)
        np.testing.assert_allclose(logits.data[i], found.detach(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(shares.data[i, :, :n], where.detach(), rtol=1e-9, atol=1e-12)
        total = total + F.cross_entropy(found, torch.tensor(target[i, 1:]), reduction="sum") / 12
    total.backward()
    assert loss.item() == pytest.approx(total.item(), rel=1e-12)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad.data, theirs[name].grad, rtol=1e-7, atol=1e-12, err_msg=name)
