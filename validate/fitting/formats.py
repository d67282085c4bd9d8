"""Which source a table is from, told by its header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topologies.errors import Problem, SpecError
from validate.fitting import (
    aiconfigurator,
    charts,
    estimate_train_time,
    infersim,
    llmcompass,
    op_efficiency,
    vidur,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from validate.fitting.sample import Sample
    from validate.fitting.table import Table

    Reader = Callable[[Table, str], Iterator[Sample]]

_MICROSECONDS = "us_trtllm,us_vllm,us_sglang"
#: By header.
FORMATS: dict[str, Reader] = {
    f"m,n,k,{_MICROSECONDS}": aiconfigurator.products,
    f"b,isl,hq,hkv,d,{_MICROSECONDS}": aiconfigurator.attention,
    f"b,isl,h,d,{_MICROSECONDS}": aiconfigurator.encoder_attention,
    f"b,kv_len,hq,hkv,d,{_MICROSECONDS}": aiconfigurator.decode_attention,
    "source,cluster,kind,gpu,op,columns,values": estimate_train_time.operators,
    "system,op,peak_tflops,shape,efficiency,tflops": op_efficiency.operators,
    "hw,mask,pass,seq_len,kernel,tflops": charts.magi,
    "hw,pass,causal,head_dim,kernel,seq512,seq1k,seq2k,seq4k,seq8k,seq16k,unit,source,license": (
        charts.dao
    ),
    "gpu,m,k_or_n,n_or_k,ms,tflops": llmcompass.products,
    "gpu,model,n_head,n_kv_head,n_embd,n_expanded_embd,vocab_size,use_gated_mlp,num_tokens,"
    "num_tensor_parallel_workers,emb_us,input_layernorm_us,attn_pre_proj_us,attn_rope_us,"
    "attn_post_proj_us,post_attention_layernorm_us,mlp_up_proj_us,mlp_act_us,mlp_down_proj_us,"
    "add_us": vidur.layers,
    "file,m,k,n,latency_us,mfu": infersim.products,
    "file,dtype,kv_dtype,batch_size,kv_len,latency_us,mfu,bf16,bf16.1,1,1024,25.4893,0.009,"
    "seq_len": infersim.attention,
}


def samples(table: Table, device: str) -> list[Sample]:
    """Return what a table says of a device; nothing if it is of others.

    Raises
    ------
    SpecError
        If no known source has tables with such a header.
    """
    header = ",".join(table.header)
    if header not in FORMATS:
        mend = "no known table of kernels has this header: see validate/fitting/formats.py"
        raise SpecError([Problem(f"TABLE {table.name}", header, mend)])
    return [each for each in FORMATS[header](table, device) if len(each)]
