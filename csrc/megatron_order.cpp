// The sample and blend indices of megatron-core 0.16.1, entry for entry, for runs that go on with the order they began
// with. Sample s of a stream of documents starts at token s * sequence_length; the index says which place in the
// document order that token has, and how far into the document it lies. The blend takes, each time, the dataset that is
// furthest behind its share, the first of equals; its arithmetic is done as megatron-core does it, rounding included.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "bindings.hpp"

namespace snow {
namespace {

// int32 or int64 [samples + 1, 2]: (place in order, token within the document) of each sample's first token.
template <typename T>
Array<T> sample_index(const Array<std::int32_t>& lengths, const Array<std::int32_t>& order, std::int64_t sequence_length, std::int64_t samples) {
    if (sequence_length < 1 || samples < 0) throw std::invalid_argument("sequences have a token at least");
    Array<T> result({static_cast<py::ssize_t>(samples + 1), py::ssize_t{2}});
    T* row = result.mutable_data();
    const std::int32_t* documents = order.data();
    const std::int64_t places = order.size(), count = lengths.size();
    const auto* bytes = static_cast<const unsigned char*>(static_cast<const void*>(lengths.data()));  // may lie in a mapped file, not aligned
    std::int64_t sample = 0, end = 0;
    *row++ = 0;  // by definition, even where the first document is empty
    *row++ = 0;
    for (std::int64_t place = 0; place < places && sample < samples; ++place) {
        if (documents[place] < 0 || documents[place] >= count) throw std::out_of_range("the order names a document that is not there");
        std::int32_t length = 0;
        std::memcpy(&length, bytes + 4 * static_cast<std::int64_t>(documents[place]), 4);
        if (length < 0) throw std::invalid_argument("a document has a negative length");
        const std::int64_t begin = end;
        end += length;
        for (std::int64_t token = (sample + 1) * sequence_length; sample < samples && token < end; token += sequence_length) {
            *row++ = static_cast<T>(place);
            *row++ = static_cast<T>(token - begin);
            ++sample;
        }
    }
    if (sample < samples) throw std::invalid_argument("the documents have " + std::to_string(end) + " tokens, too few for " + std::to_string(samples) + " samples");
    return result;
}

py::tuple furthest_behind(const Array<double>& weights, std::int64_t samples) {
    const auto datasets = static_cast<std::size_t>(weights.size());
    if (datasets == 0 || samples < 0) throw std::invalid_argument("a blend has a dataset at least");
    Array<std::int32_t> dataset_of(samples);
    Array<std::int64_t> index_of(samples);
    std::int32_t* chosen = dataset_of.mutable_data();
    std::int64_t* index = index_of.mutable_data();
    const double* share = weights.data();
    {
        py::gil_scoped_release release;
        std::vector<double> taken(datasets), behind(datasets);  // whole numbers below 2^53: exact
        for (std::int64_t n = 0; n < samples; ++n) {
            const double asked = n > 1 ? static_cast<double>(n) : 1.0;
            for (std::size_t i = 0; i < datasets; ++i) behind[i] = share[i] * asked - taken[i];
            const auto most = static_cast<std::size_t>(std::max_element(behind.begin(), behind.end()) - behind.begin());
            chosen[n] = static_cast<std::int32_t>(most);
            index[n] = static_cast<std::int64_t>(taken[most]);
            taken[most] += 1.0;
        }
    }
    return py::make_tuple(dataset_of, index_of);
}

}  // namespace

void bind_megatron_order(py::module_& module) {
    module.def("megatron_samples_32", &sample_index<std::int32_t>, py::arg("lengths"), py::arg("order"), py::arg("sequence_length"), py::arg("samples"));
    module.def("megatron_samples_64", &sample_index<std::int64_t>, py::arg("lengths"), py::arg("order"), py::arg("sequence_length"), py::arg("samples"));
    module.def("megatron_blend", &furthest_behind, py::arg("weights"), py::arg("samples"), "(dataset int32[samples], index within it int64[samples]).");
}

}  // namespace snow
