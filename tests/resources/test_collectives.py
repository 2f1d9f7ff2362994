"""Reading the collectives of a program from its HLO text."""

from transformer_jax.resources.collectives import find_collectives


def test_loops_count_with_their_trip_count():
    hlo = """HloModule jit_step

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%inner (p: (s32[], f32[6])) -> (s32[], f32[6]) {
  %all-reduce.1 = (f32[6]{0}, /*index=1*/bf16[2,5]{1,0}) all-reduce(%a, %b), replica_groups=[4,2]<=[8], to_apply=%add
}

%outer (p: (s32[], f32[6])) -> (s32[], f32[6]) {
  %while.1 = (s32[], f32[6]) while(%t), body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %all-gather.1 = f32[8,3]{1,0} all-gather(%c), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
}

ENTRY %main (p: f32[6]) -> f32[6] {
  %while.2 = (s32[], f32[6]) while(%t), condition=%add, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  %reduce-scatter.1 = f32[7]{0} reduce-scatter(%d), replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, to_apply=%add
  ROOT %collective-permute.1 = pred[11]{0} collective-permute(%e), source_target_pairs={{0,1},{1,0}}
}
"""
    collectives = {collective.kind: collective for collective in find_collectives(hlo)}
    assert collectives["all-reduce"][1:] == (
        ("bf16", "f32"),
        [(6,), (2, 5)],
        44,
        15,
        True,
    )  # 2 * 1/2 * (6 * 4 + 10 * 2) bytes
    assert collectives["all-gather"][1:] == (("f32",), [(8, 3)], 72, 5, True)  # 3/4 * 24 * 4 bytes
    assert collectives["reduce-scatter"][1:] == (("f32",), [(7,)], 84, 1, False)  # 3 * 7 * 4 bytes
    assert collectives["collective-permute"][1:] == (("pred",), [(11,)], 11, 1, False)


def test_forms_of_the_tpu_compiler_count_once():
    hlo = """HloModule jit_step

%all-reduce-scatter.1 (input: f32[56,3]) -> f32[7,3] {
  %all-reduce.9 = f32[56,3]{1,0} all-reduce(%input), channel_id=9, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  ROOT %slice.9 = f32[7,3]{1,0} dynamic-slice(%all-reduce.9, %c, %d), dynamic_slice_sizes={7,3}
}

%start (a: bf16[1,5]) -> (bf16[1,5], bf16[8,5]) {
  %all-gather.1 = bf16[8,5]{1,0} all-gather(%a), channel_id=4, replica_groups=[1,8]<=[8], attributes={chain_id="0"}
}

%end (a: bf16[1,5]) -> bf16[8,5] {
  %all-gather.2 = bf16[8,5]{1,0} all-gather(%a), channel_id=4, replica_groups=[1,8]<=[8], attributes={chain_id="0"}
}

%other (a: bf16[1,5]) -> bf16[8,5] {
  %all-gather.3 = bf16[8,5]{1,0} all-gather(%a), channel_id=6, replica_groups=[1,8]<=[8], attributes={chain_id="1"}
}

ENTRY %main (p: f32[6]) -> f32[6] {
  %fusion.1 = (bf16[1,5], bf16[8,5]) fusion(%p), kind=kCustom, calls=%start
  %fusion.2 = bf16[8,5] fusion(%fusion.1), kind=kCustom, calls=%end
  %fusion.3 = bf16[8,5] fusion(%p), kind=kCustom, calls=%other
  %fusion.4 = f32[7,3]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1, metadata={}
  %collective-permute-start.1 = (f32[11,2], f32[11,2], u32[], u32[]) collective-permute-start(%q), channel_id=1
  ROOT %all-reduce-start.1 = (f32[13], f32[3]) all-reduce-start(%r, %s), channel_id=2, replica_groups=[1,8]<=[8]
}
"""
    collectives = find_collectives(hlo)
    assert [(collective.kind, collective.result_shapes) for collective in collectives] == [
        ("all-gather", [(8, 5)]),
        ("all-gather", [(8, 5)]),
        ("reduce-scatter", [(7, 3)]),
        ("collective-permute", [(11, 2)]),
        ("all-reduce", [(13,), (3,)]),
    ]
    # 7/8 * 40 * 2 bytes; 7 * 21 * 4 bytes; 22 * 4 bytes; 2 * 7/8 * 16 * 4 bytes
    assert [collective.bytes_sent for collective in collectives] == [70, 70, 588, 88, 112]
