"""A chain of regions as C++: one function that calls them, and one that makes all their copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epitaxy.proposers.grower.chains import Chain, Link, strips
from epitaxy.proposers.grower.emit_expr import indent

LINE = 64
"""Bytes of a cache line."""


def write_chain(chain: Chain, body: str) -> str:
    """`extern "C"` functions of `chain`, whose regions `body` holds."""
    return _ChainWriter(chain, body).write()


class _ChainWriter:
    """Says where every value lies, and calls the regions with that."""

    def __init__(self, chain: Chain, body: str) -> None:
        self.chain, self.name = chain, chain.region.name
        names = {link.region.name for link in chain.links}
        self.keeps = {n for n in names if f"int64_t {n}_keep(" in body}
        self.answers = {n for n in names if f'extern "C" int {n}(' in body}
        self.rows = list(chain.rows())
        self.row_of = {r: k for k, row in enumerate(self.rows) for x in row for r in x.results}
        self.bytes: dict[str, int] = {}
        for link in chain.links:
            specs = (*link.region.inputs, *link.region.outputs)
            for name, spec in zip((*link.args, *link.results), specs, strict=True):
                self.bytes[name] = spec.bytes
        self.own = {n for n in self.row_of if self._stays(n)}
        self.passing = {n for row in self.rows for s in strips(row) for n in self._passed(s)}
        shared = [n for n in self.row_of if n not in self.own and n not in chain.results]
        self.shared, self.shared_bytes = self._placed(shared, self.bytes, self.rows)

    def write(self) -> str:
        """Both functions, and one for each row that runs sample by sample."""
        blocks = [self._copies()] if self.keeps else []
        calls = []
        for number, row in enumerate(self.rows):
            if row[0].sample is None:
                calls += self._call(row[0], {})
            else:
                blocks.append(self._sample(number, row))
                calls += self._samples(number, row)
        return "\n\n".join([*blocks, self._whole(calls)]) + "\n"

    def _stays(self, name: str) -> bool:
        """Whether a value is made and used up within one sample of one row."""
        if name in self.chain.results:
            return False
        rows = {k for k, row in enumerate(self.rows) for x in row if name in x.args}
        return rows <= {self.row_of[name]} and self.rows[self.row_of[name]][0].sample is not None

    def _passed(self, strip: Sequence[Link]) -> set[str]:
        """Values that are made and used up within one part of a strip."""
        if strip[0].part is None:
            return set()
        mine = {n for link in strip for n in link.results}
        others = (link for link in self.chain.links if mine.isdisjoint(link.results))
        return (mine & self.own).difference(*(link.args for link in others))

    @staticmethod
    def _placed(
        names: Sequence[str], size: Mapping[str, int], steps: Sequence[Sequence[Link]]
    ) -> tuple[dict[str, int], int]:
        """Bytes from the start of their memory at which values lie, and how long that is. Values
        that are needed in the same one of `steps` lie apart: some samples may be at its end while
        others begin it."""
        made = {r: k for k, step in enumerate(steps) for link in step for r in link.results}
        last = {
            n: k
            for k, step in enumerate(steps)
            for link in step
            for n in (*link.results, *link.args)
        }
        places: dict[str, int] = {}
        for name in sorted(names, key=lambda n: made[n]):
            alive = [(places[n], size[n]) for n in places if last[n] >= made[name]]
            place = 0
            for start, length in sorted(alive):
                if start >= place + size[name]:
                    break
                place = max(place, _lines(start + length))
            places[name] = place
        return places, max((places[n] + size[n] for n in places), default=0)

    def _copies(self) -> str:
        """The function that makes all copies of weights, one region after the other."""
        lines = ["int64_t used = 0;"]
        for number, link in enumerate(self.chain.links):
            lines.append(f"at[{number}] = used;")
            if link.region.name not in self.keeps:
                continue
            given = [
                f"in[{self.chain.args.index(a)}]" if a in self.chain.args else "nullptr"
                for a in link.args
            ]
            lines += [
                "{",
                f"  const void* const given[] = {{{', '.join(given)}}};",
                f"  used += {link.region.name}_keep(given, kept ? kept + used : nullptr);",
                "}",
            ]
        place = (
            f"static int64_t {self.name}_copies(const void* const* in, float* kept, int64_t* at) {{"
        )
        count = len(self.chain.links)
        return "\n".join([
            f"// Copies of weights for all of {self.name}; at: where those of each call begin.",
            place, *indent([*lines, "return used;"]), "}",
            f'extern "C" int64_t {self.name}_keep(const void* const* in, float* kept) {{',
            f"  int64_t at[{count}];", f"  return {self.name}_copies(in, kept, at);", "}",
        ])  # fmt: skip

    def _sample(self, number: int, row: Sequence[Link]) -> str:
        """The function that runs a row for sample t."""
        own = self._own(row)[0]
        lines: list[str] = []
        for strip in strips(row):
            calls = [x for link in strip for x in self._call(link, own)]
            if part := strip[0].part:
                loop = f"for (int64_t g = 0; g < {part.count}; ++g) {{"
                calls = [loop, *indent(calls), "}"]
            lines += calls
        names = ", ".join(link.region.name for link in row)
        return "\n".join([
            f"// {names} for sample t; `own` holds what they hand on.",
            f"static int {self.name}_row{number}({_PARAMETERS}, char* own, int64_t t) {{",
            *indent([_UNUSED, "(void)own;", *lines, "return 0;"]), "}",
        ])  # fmt: skip

    def _samples(self, number: int, row: Sequence[Link]) -> list[str]:
        """A row for all samples: each by one thread, in a team of its own."""
        sample = row[0].sample
        assert sample is not None
        return [
            "{",
            "  int refused = 0;",
            "  #pragma omp parallel reduction(max : refused)",
            "  {",
            f"    const epx::Scratch<char> own({max(1, self._own(row)[1])});",
            "    #pragma omp for schedule(dynamic) nowait",
            f"    for (int64_t t = 0; t < {sample.count}; ++t) {{",
            "      int answer = 0;",
            "      #pragma omp parallel num_threads(1)",
            f"      answer = {self.name}_row{number}(in, out, all, kept, own.data, t);",
            "      if (answer > refused) refused = answer;",
            "    }",
            "  }",
            "  if (refused) return refused;",
            "}",
        ]

    def _own(self, row: Sequence[Link]) -> tuple[dict[str, int], int]:
        sample = row[0].sample
        count = sample.count if sample else 1
        size = {n: b // count for n, b in self.bytes.items()}
        for link in row:
            if link.part:
                passing = self.passing.intersection(link.results)
                size |= {n: size[n] // link.part.count for n in passing}
        names = [n for x in row for n in x.results if n in self.own]
        return self._placed(names, size, list(strips(row)))

    def _whole(self, calls: Sequence[str]) -> str:
        """The function that is called."""
        count = len(self.chain.links)
        kept = [f"const float* kept[{count}] = {{}};"]
        if self.keeps:
            base = f"static_cast<const float*>(in[{len(self.chain.args)}])"
            kept += [
                f"int64_t at[{count}];",
                f"{self.name}_copies(in, nullptr, at);",
                f"for (int i = 0; i < {count}; ++i) kept[i] = {base} + at[i];",
            ]
        memory = [
            f"const epx::Scratch<char> all_({max(1, self.shared_bytes)});",
            "char* const all = all_.data;",
        ]
        names = ", ".join(link.region.name for link in self.chain.links)
        return "\n".join([
            f"// {self.name} calls {names}",
            f'extern "C" int {self.name}(const void* const* in, void* const* out) {{',
            *indent([*kept, *memory, "(void)in, (void)out, (void)all, (void)kept;", *calls]),
            "  return 0;", "}",
        ])  # fmt: skip

    def _call(self, link: Link, own: Mapping[str, int]) -> list[str]:
        """The call of one region: for everything, for sample t, or for part g of that."""
        sample, part = link.sample, link.part
        samples, parts = sample.count if sample else 1, part.count if part else 1
        given = []
        for i, name in enumerate(link.args):
            moved = samples if sample and i in sample.divided else 1
            cut = parts if part and i in part.divided else 1
            given.append(self._at(name, own, self._step(name, moved, cut)))
        if link.region.name in self.keeps:
            given.append(f"kept[{self.chain.links.index(link)}]")
        made = [self._at(n, own, self._step(n, samples, parts)) for n in link.results]
        call = f"{link.region.name}(given, made);"
        if link.region.name in self.answers:
            call = f"if (const int refused = {link.region.name}(given, made)) return refused;"
        return [
            "{",
            f"  const void* const given[] = {{{', '.join(given)}}};",
            f"  void* const made[] = {{{', '.join(made)}}};",
            f"  {call}",
            "}",
        ]

    def _step(self, name: str, samples: int, parts: int) -> str:
        """Bytes from the start of a value to the sample t of `samples`, and to part g of that."""
        each = self.bytes[name] // samples
        steps = [f"t * {each}"] if samples > 1 and name not in self.own else []
        if parts > 1 and name not in self.passing:
            steps.append(f"g * {each // parts}")
        return " + ".join(steps)

    def _at(self, name: str, own: Mapping[str, int], step: str) -> str:
        """Where a value lies; its part `step` bytes on."""
        if name in own:
            return f"own + {own[name]}" + (f" + {step}" if step else "")
        if name in self.shared:
            return f"all + {self.shared[name]}" + (f" + {step}" if step else "")
        if name in self.chain.results:
            place = f"out[{self.chain.results.index(name)}]"
            return f"static_cast<char*>({place}) + {step}" if step else place
        place = f"in[{self.chain.args.index(name)}]"
        return f"static_cast<const char*>({place}) + {step}" if step else place


_PARAMETERS = "const void* const* in, void* const* out, char* all, const float* const* kept"
_UNUSED = "(void)in, (void)out, (void)all, (void)kept, (void)t;"


def _lines(count: int) -> int:
    return -(-count // LINE) * LINE
