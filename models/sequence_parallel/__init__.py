"""Sequence parallelism of attention: who computes what, and what is sent.

These methods and their products, over ``cp = ulysses * ring`` ranks:

* **Ulysses** (Jacobs et al., arXiv:2309.14509): all-to-all turns a rank's tokens of all heads into
  all tokens of some heads, and back after attention. Key/value heads are replicated when the
  degree exceeds them (DeepSpeed ``ulysses_sp.py``).
* **Ring** (Liu et al., arXiv:2310.01889): keys and values travel ``ring - 1`` hops; backward their
  gradients travel too. Causal work is even if every rank holds a chunk from both ends (zigzag) and
  ``2 - 1/ring`` times the mean on the last rank if it holds one run.
* **Double ring** (LoongTrain, Gu et al., arXiv:2406.18485): a ring of ``R`` ranks in windows of
  ``w``. Blocks go round the window in ``w - 1`` hops, then every rank's moves to the same place of
  the next window, ``R / w - 1`` times in all. That hop starts with the round before it. Windows
  inside a node use all its network cards at once; a flat ring crosses through one.
* **All-gather of keys and values** (Llama 3, arXiv:2407.21783 section 3.3.2) on the ring axis.

The hybrid runs the ring on ``1 / ulysses`` of the heads and ``1 / ring`` of the tokens (USP,
arXiv:2405.07719). Volumes are those of the implementations named in :class:`KernelSet`.
"""
