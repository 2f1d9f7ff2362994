"""The table of programs that are compiled for TPUs is built from the recorded programs."""

from benchmarks.tpu_programs import CELLS, MESHES, PROGRAMS, VARIANTS, main, table


def test_table_of_this_checkout_matches_its_record():
    main(["--check"])


def test_every_program_variant_and_mesh_is_compiled():
    programs, variants, meshes = (set(names) for names in zip(*CELLS, strict=True))
    assert programs == set(PROGRAMS)
    assert variants == set(VARIANTS)
    assert meshes == {*MESHES, "one device"}


def test_table_shows_the_memory_of_each_mesh():
    records = {
        cell.name: {"arguments": 3 * 2**10, "temporary": number * 2**10} for number, cell in enumerate(CELLS[:5])
    }
    lines = table(records).splitlines()
    assert lines[2] == "| training step | float32 | 3 + 0 | 3 + 1 | 3 + 2 | 3 + 3 | 3 + 4 |  |"
    assert {line.count("|") for line in lines} == {9}
