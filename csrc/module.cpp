// megatron_snow._csrc: the parts of the data path that Python is too slow for. Each has a Python twin in
// megatron_snow/blend/reference.py or megatron_snow/corpus/reference.py that tests hold it to, result for result.
#include "bindings.hpp"

PYBIND11_MODULE(_csrc, module) {
    module.doc() = "Native data path of megatron_snow; use it through megatron_snow.blend and megatron_snow.corpus.";
    snow::bind_blend_index(module);
    snow::bind_blend_split(module);
    snow::bind_clusters(module);
    snow::bind_document_order(module);
    snow::bind_megatron_order(module);
    snow::bind_needles(module);
    snow::bind_sample_reader(module);
    snow::bind_shard_scan(module);
    snow::bind_signals(module);
    snow::bind_signatures(module);
}
