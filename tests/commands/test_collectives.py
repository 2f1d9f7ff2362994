"""Reading the collectives of a program from its HLO text."""

from transformer_jax.commands.collectives import find_collectives


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
  %kernel.1 = f32[5]{0} custom-call(%p), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
}}
  %reduce-scatter.1 = f32[7]{0} reduce-scatter(%d), replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, to_apply=%add
  ROOT %collective-permute.1 = pred[11]{0} collective-permute(%e), source_target_pairs={{0,1},{1,0}}
}
"""
    collectives = {collective.kind: collective for collective in find_collectives(hlo)}
    assert collectives["all-reduce"][1:] == ([(6,), (2, 5)], 44, 15, True)  # 2 * 1/2 * (6 * 4 + 10 * 2) bytes
    assert collectives["all-gather"][1:] == ([(8, 3)], 72, 5, True)  # 3/4 * 24 * 4 bytes
    assert collectives["reduce-scatter"][1:] == ([(7,)], 84, 1, False)  # 3 * 7 * 4 bytes
    assert collectives["collective-permute"][1:] == ([(11,)], 11, 1, False)
