"""What stands above an exported kernel, for people."""

import fake_records as fake

from epitaxy.product.export import export

LIBRARY = "// ---- a library ----\ninline int one() { return 1; }\n\n"
PRODUCT = "// region0 replaces aten.mm\nvoid region0() { epx::contract<S>(a, b); }\n"
CHAIN = "// region1 replaces aten.exp\nvoid region1() { for (;;) {} }\n"
GENOME = (
    "region0(width=16 tile_m=13 tile=64 winograd=0) region1(width=8 tile_m=6 tile=64 winograd=0)"
)


def exported(kernel, tmp_path, judged=True):
    of = fake.problem()
    new = fake.candidate(of, 1, kernel=kernel).replace(genome=GENOME, algebra=("a rule of sums",))
    new = new.replace(files={**new.files, "forward.py": "class ModelNew(Model): ...\n"})
    verdict = fake.accepted(new, 2e-3) if judged else fake.refused(new)
    export(new, verdict, of, tmp_path)
    return (tmp_path / "kernel.cpp").read_text(), (tmp_path / "model_new.py").read_text()


def test_a_header_says_what_and_why_and_what_was_measured(tmp_path):
    text, bundle = exported(LIBRARY + PRODUCT + CHAIN, tmp_path)
    head, body = text.split("\n\n", 1)
    assert body == LIBRARY + PRODUCT + CHAIN
    assert all(line.startswith("//") and len(line) < 101 for line in head.splitlines())
    for said in (
        "row softmax: unroll 1, by grower",
        "What: softmax.",
        "Stays with PyTorch: view.",
        "Rewritten: a rule of sums.",
        "Measured: 2 ms a call, 80% of the physical limit",
        "1.80x as fast as compile max-autotune (95% interval 1.75 to 1.85): faster",
        "4e-07 of 1.7e-06 (large)",
        "begin 3 lines below",
    ):
        assert said in head
    assert "Measured: 2 ms" not in bundle, "what is built is what was judged"


def test_of_each_region_only_what_shows_is_told(tmp_path):
    text, _ = exported(LIBRARY + PRODUCT + CHAIN, tmp_path)
    product, chain = text.split("Why so: ")[1:]
    assert "tile_m = 13  (rows of" in product
    assert "tile = 64" not in product
    assert "tile = 64" in chain
    assert "tile_m" not in chain
    assert "winograd" not in text


def test_what_is_not_accepted_has_no_times_and_what_is_written_by_hand_no_header(tmp_path):
    text, _ = exported(LIBRARY + PRODUCT, tmp_path / "a", judged=False)
    assert "Measured: nothing" in text
    assert exported(LIBRARY, tmp_path / "b")[0] == LIBRARY


def test_exact_results_which_are_allowed_no_error_have_a_header_too(tmp_path):
    of = fake.problem()
    new = fake.candidate(of, 1, kernel=LIBRARY + PRODUCT).replace(genome=GENOME)
    new = new.replace(files={**new.files, "forward.py": "class ModelNew(Model): ...\n"})
    verdict = fake.accepted(new, 2e-3)
    exact = tuple(row.replace(error=0.0, honest=0.0, limit=0.0) for row in verdict.errors)
    export(new, verdict.replace(errors=exact), of, tmp_path)
    assert "0 of 0" in (tmp_path / "kernel.cpp").read_text()
