// What every part of the extension shares: the array types it takes and the functions that register its parts.
#pragma once

#include <cstdint>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace snow {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

void bind_blend_index(py::module_& module);
void bind_blend_split(py::module_& module);
void bind_clusters(py::module_& module);
void bind_document_order(py::module_& module);
void bind_megatron_order(py::module_& module);
void bind_needles(py::module_& module);
void bind_sample_reader(py::module_& module);
void bind_shard_scan(py::module_& module);
void bind_signals(py::module_& module);
void bind_signatures(py::module_& module);

}  // namespace snow
