"""What students might hand in: right in other words, wrong as the slips go, and not allowed.

Answers stand by the grade_id of their cell, one for each blank in it.
"""

import re
import textwrap

import nbformat

STUB = re.compile(r"^( *)# YOUR CODE HERE\n *raise NotImplementedError\(\)", re.MULTILINE)

IN_OTHER_WORDS = {
    "cells": {
        "rnn-step": ["return (x @ w_ih.T + h @ w_hh.T + b_ih + b_hh).tanh()"],
        "lstm-step": [
            "F = nn.functional\n"
            "a = F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)\n"
            "i, f, g, o = (a[:, n * h.shape[1] : (n + 1) * h.shape[1]] for n in range(4))\n"
            "c = c * f.sigmoid() + g.tanh() * i.sigmoid()\n"
            "return c.tanh() * o.sigmoid(), c"
        ],
        "gru-step": [
            "F, n = nn.functional, h.shape[1]\n"
            "a, b = F.linear(x, w_ih, b_ih), F.linear(h, w_hh, b_hh)\n"
            "r, z = (a[:, : 2 * n] + b[:, : 2 * n]).sigmoid().chunk(2, 1)\n"
            "new = (a[:, 2 * n :] + r * b[:, 2 * n :]).tanh()\n"
            "return new + z * (h - new)"
        ],
        "gru-before-step": [
            "F, n = nn.functional, h.shape[1]\n"
            "a, b = F.linear(x, w_ih, b_ih), F.linear(h, w_hh, b_hh)\n"
            "r, z = (a[:, : 2 * n] + b[:, : 2 * n]).sigmoid().chunk(2, 1)\n"
            "new = (a[:, 2 * n :] + F.linear(r * h, w_hh[2 * n :], b_hh[2 * n :])).tanh()\n"
            "return new + z * (h - new)"
        ],
        "turned-gru-step": [
            "n = h.shape[1]\n"
            "w, u, b = (torch.cat([p[:n], -p[n : 2 * n], p[2 * n :]]) for p in (w, u, b))\n"
            "return gru_before_step(x, h, w, u, b, torch.zeros_like(b))"
        ],
        "initial-state": ["return torch.stack([h_0] * rows)"],
        "masked-softmax-by-product": [
            "shift = torch.where(mask, scores, -torch.inf).max(-1, keepdim=True).values\n"
            "kept = torch.where(mask, (scores - shift).exp(), 0.0)\n"
            "return kept / kept.sum(-1, keepdim=True)"
        ],
        "masked-softmax": ["return torch.where(mask, scores, -1e9).softmax(-1)"],
        "attention": [
            "return masked_softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, mask) @ v"
        ],
        "multi-head-attention": [
            "mask, found = torch.ones(len(x), len(x)).tril().bool(), []\n"
            "parts = [p(x).transpose(0, 1) for p in (weights.query, weights.key, weights.value)]\n"
            "for q, k, v in zip(*(p.chunk(weights.heads, -1) for p in parts)):\n"
            "    found.append(attention(q, k, v, mask))\n"
            "return weights.output(torch.cat(found, -1).transpose(0, 1))"
        ],
    },
    "theory": {
        "masked-loss": ["return F.cross_entropy(scores.mT, target, ignore_index=pad)"],
        "parameters": [
            "return 4 * (inputs * hidden + hidden * hidden + biases * hidden)",
            "return lstm_parameters(inputs, hidden, biases) * 3 // 4",
        ],
        "sigmoid-slope": ["return s - s**2"],
        "scalar-gradients": [
            "error = (1 - z_2) * z_2 * delta * (h_1 - g_2)\nreturn x_2 * error, h_1 * error",
            "error = delta * (1 - g_2**2) * (1 - z_2)\nreturn x_2 * error, h_1 * r_2 * error",
            "error = candidate(delta, 1, h_1, h_2, z_2, r_2, g_2, W_hg)[0] * W_hg * h_1\n"
            "error = error * sigmoid_slope(r_2)\n"
            "return error * x_2, error * h_1",
        ],
        "vector-gradients": [
            "error = (z_2 - z_2 * z_2) * delta * (h_1 - g_2)\n"
            "return x_2[:, None] * error, h_1[:, None] * error",
            "error = (1 - g_2 * g_2) * (1 - z_2) * delta\n"
            "return x_2[:, None] * error, (r_2 * h_1)[:, None] * error",
            "error = (1 - g_2 * g_2) * (1 - z_2) * delta\n"
            "error = error @ W_hg.T * (r_2 - r_2 * r_2) * h_1\n"
            "return x_2[:, None] * error, h_1[:, None] * error",
        ],
    },
    "lesson": {
        "windows": [
            "rows = (len(ids) - 1) // batch_size\n"
            "cut = lambda k: torch.stack(ids[k : k + rows * batch_size].split(rows), 1)\n"
            "return list(zip(cut(0).split(bptt), cut(1).split(bptt)))"
        ],
        "gru-model": [
            "def __init__(self, hidden, layers=1, dropout=0.0):\n"
            "    super().__init__()\n"
            "    lstm = LSTMModel(hidden, layers, dropout)\n"
            "    self.embedding, self.output, self.drop = lstm.embedding, lstm.output, lstm.drop\n"
            "    self.rnn = nn.GRU(hidden, hidden, layers, dropout=lstm.rnn.dropout)\n"
            "    for weights in self.rnn.parameters():\n"
            "        weights.data.uniform_(-0.1, 0.1)\n"
            "\n"
            "forward = LSTMModel.forward",
        ],
        "saved-by-the-gru": ["return layers * (hidden * hidden * 2 + 2 * hidden)"],
        "tie": ["model.embedding.weight = model.output.weight"],
        "train": [
            "model.train()\n"
            "found, state = [], None\n"
            "for x, y in batches:\n"
            "    model.zero_grad()\n"
            "    if isinstance(state, tuple):\n"
            "        state = state[0].detach(), state[1].detach()\n"
            "    elif state is not None:\n"
            "        state = state.detach()\n"
            "    scores, state = model(x, state)\n"
            "    loss = nn.CrossEntropyLoss()(scores.reshape(-1, V), y.reshape(-1))\n"
            "    loss.backward()\n"
            "    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)\n"
            "    with torch.no_grad():\n"
            "        for weights in model.parameters():\n"
            "            weights -= lr * weights.grad\n"
            "    found.append(float(loss))\n"
            "return found"
        ],
        "evaluate": [
            "model.train(False)\n"
            "losses, state = [], None\n"
            "for x, y in batches:\n"
            "    scores, state = model(x, state)\n"
            "    losses.append(-scores.log_softmax(2).gather(2, y[..., None]).flatten())\n"
            "return torch.cat(losses).mean().item()"
        ],
        "loss-by-place": [
            "model.eval()\n"
            "x, y = (torch.cat(parts, 1) for parts in zip(*batches))\n"
            "p = model(x)[0].detach().log_softmax(-1)\n"
            "return -p.gather(2, y[..., None])[..., 0].mean(1)"
        ],
        "my-model": [
            "my_model = LSTMModel(hidden)\n"
            "for epoch in range(6):\n"
            "    train(my_model, windows(train_text, 20, 10), 20 * 0.8**epoch, 0.25)"
        ],
    },
}

# The mistakes of known solutions of the exercise, as places in the answers above.
MISTAKES = {
    "sigma(1 - sigma^2)": [
        ("sigmoid-slope", "s - s**2", "s * (1 - s**2)"),
        ("scalar-gradients", "(1 - z_2) * z_2 * delta", "(1 - z_2**2) * z_2 * delta"),
        ("scalar-gradients", "sigmoid_slope(r_2)", "r_2 * (1 - r_2**2)"),
    ],
    "h_2 for h_1": [("scalar-gradients", "h_1 * error", "h_2 * error")],
    "transposed factor": [
        (
            "vector-gradients",
            "error @ W_hg.T * (r_2 - r_2 * r_2) * h_1",
            "error * (W_hg.T @ h_1) * (r_2 - r_2 * r_2)",
        )
    ],
}

_CELLS = "from ptb.models import cells, transformer\n"
FROM_THE_COURSE = {  # what `import` finds in this repository
    "cells": IN_OTHER_WORDS["cells"]
    | {
        "rnn-step": [_CELLS + "return cells.rnn_step(x, h, w_ih, w_hh, b_ih, b_hh)"],
        "lstm-step": [_CELLS + "return cells.lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh)"],
        "gru-step": [_CELLS + "return cells.gru_step(x, h, w_ih, w_hh, b_ih, b_hh)"],
        "gru-before-step": [
            _CELLS + "return cells.gru_step(x, h, w_ih, w_hh, b_ih, b_hh, 'before')"
        ],
        "masked-softmax": [_CELLS + "return transformer.masked_softmax(scores, mask)"],
        "attention": [_CELLS + "return transformer.attention(q, k, v, mask)"],
    },
    "theory": IN_OTHER_WORDS["theory"]
    | {
        "scalar-gradients": [
            "from ptb.models.gru_gradients import FORMS, QUANTITIES, SYMBOL\n"
            "given = dict(x_2=x_2, h_1=h_1, delta=delta, W_hg=W_hg, z_2=z_2, g_2=g_2, r_2=r_2)\n"
            "forms = [FORMS[name] for name in ('W_x%s', 'W_h%s')]\n".replace("%s", gate)
            + "return tuple(f.subs({SYMBOL[n]: v for n, v in given.items()}) for f in forms)"
            for gate in "zgr"
        ]
    },
    "lesson": IN_OTHER_WORDS["lesson"]
    | {
        "windows": [
            "from ptb.data.corpus import windows\nreturn list(windows(ids, batch_size, bptt))"
        ],
    },
}
FROM_TORCH = {
    "cells": IN_OTHER_WORDS["cells"]
    | {
        "rnn-step": ["return torch.rnn_tanh_cell(x, h, w_ih, w_hh, b_ih, b_hh)"],
        "lstm-step": [
            "cell = nn.LSTMCell(x.shape[1], h.shape[1])\n"
            "weights = dict(zip(dict(cell.named_parameters()), (w_ih, w_hh, b_ih, b_hh)))\n"
            "return torch.func.functional_call(cell, weights, (x, (h, c)))"
        ],
        "gru-step": [
            "cell = torch.nn.GRUCell(x.shape[1], h.shape[1])\n"
            "with torch.no_grad():\n"
            "    for mine, given in zip(cell.parameters(), (w_ih, w_hh, b_ih, b_hh)):\n"
            "        mine.copy_(given)\n"
            "return cell(x, h)"
        ],
        "masked-softmax-by-product": [
            "return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1)"
        ],
        "attention": ["return nn.functional.scaled_dot_product_attention(q, k, v, mask)"],
        "multi-head-attention": [
            "later = torch.ones(len(x), len(x)).triu(1).bool()\n"
            "return as_torch_has_them(weights)(x, x, x, attn_mask=later)[0]"
        ],
    },
    "theory": IN_OTHER_WORDS["theory"]
    | {
        "parameters": [
            "held = sum(p.numel() for p in nn.LSTMCell(inputs, hidden).parameters())\n"
            "return held - (2 - biases) * 4 * hidden",
            "return lstm_parameters(inputs, hidden, biases) * 3 // 4",
        ],
        "vector-gradients": [
            "a = torch.logit(z_2).requires_grad_()\n"
            "h_2 = a.sigmoid() * h_1 + (1 - a.sigmoid()) * g_2\n"
            "(u,) = torch.autograd.grad(delta @ h_2, a)\n"
            "return torch.outer(x_2, u), torch.outer(h_1, u)",
            *IN_OTHER_WORDS["theory"]["vector-gradients"][1:],
        ],
    },
    "lesson": IN_OTHER_WORDS["lesson"]
    | {
        "saved-by-the-gru": [
            "models = LSTMModel(hidden, layers), GRUModel(hidden, layers)\n"
            "lstm, gru = (sum(p.numel() for p in m.rnn.parameters()) for m in models)\n"
            "return lstm - gru"
        ]
    },
}


def identity(cell) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def mistaken(answers: dict, *mistakes: str) -> dict:
    """The answers with some of MISTAKES in them."""
    answers = dict(answers)
    for where, right, wrong in (slip for name in mistakes for slip in MISTAKES[name]):
        before = answers[where]
        answers[where] = [answer.replace(right, wrong) for answer in before]
        assert answers[where] != before, f"{right} is not in the answers of {where}"
    return answers


def handed_in(released, answers: dict):
    """A copy of a students' version with the answers in its blanks, and a text in the free ones."""
    copy = nbformat.from_dict(released)
    for cell in copy.cells:
        for answer in answers.get(identity(cell), ()):
            cell.source = STUB.sub(lambda m, a=answer: textwrap.indent(a, m[1]), cell.source, 1)
        if cell.source == "YOUR ANSWER HERE":
            cell.source = "In my own words: …"
    return copy
