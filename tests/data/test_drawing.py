"""A random part of a stream, beside all at once."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dsel.data.drawing import Drawing
from dsel.functional.hashing import hash_texts, remix


@given(parts=st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=8), count=st.integers(1, 30), late=st.booleans())
def test_the_luckiest_of_each_text_the_first(parts: list[list[int]], count: int, late: bool) -> None:
    drawing, place, sifted = Drawing(count, seed=3), 0, []
    for part in parts:
        table = pa.table({"text": pa.array([f"text {n}" for n in part], pa.string()), "place": range(place, place + len(part))})
        place += len(part)
        if late:
            sifted.append(drawing.sift(table))  # before others were added, as other threads do
        else:
            drawing.add([drawing.sift(table)])
    drawing.add(sifted)

    numbers = [n for part in parts for n in part]
    first = {n: at for at, n in reversed(list(enumerate(numbers)))}
    texts = sorted(first)
    luck = dict(zip(texts, remix(hash_texts(pa.array([f"text {n}" for n in texts], pa.string())), 3).tolist(), strict=True))
    expected = sorted(first[n] for n in sorted(texts, key=luck.__getitem__)[:count])
    assert drawing.num_drawn == len(expected)
    found = drawing.finish()
    assert (found["place"].to_pylist() if numbers else found["text"].to_pylist()) == expected
