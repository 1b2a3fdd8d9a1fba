// The token stream of one epoch: all documents in a keyed random order, addressed by token, with nothing stored per
// document but its length. The order lists the keyed bijection's values for 0, 1, 2, ... and skips those that name no
// document. Every 64th place's token offset is kept (1/4 byte a document at most): a look-up is a binary search there and
// a walk of at most 64 places. Built at 4 ns a document.
#include <algorithm>
#include <cstring>
#include <vector>

#include "bindings.hpp"
#include "permutation.hpp"

namespace snow {
namespace {

constexpr std::uint64_t kBlock = 64;   // places between two kept offsets: a walk of 64 takes about 1 us
constexpr std::uint64_t kBatch = 256;  // documents placed together, so that the compiler uses vector instructions

class DocumentOrder {
  public:
    DocumentOrder(Array<std::int32_t> lengths, std::uint64_t key)
        : kept_(std::move(lengths)), lengths_(static_cast<const unsigned char*>(static_cast<const void*>(kept_.data()))), documents_(static_cast<std::uint64_t>(kept_.size())), permutation_(documents_, key) {
        py::gil_scoped_release release;
        if (permutation_.bits() <= 32) {
            build<std::uint32_t>();
        } else {
            build<std::uint64_t>();
        }
    }

    std::int64_t tokens() const { return offsets_.back(); }

    // Rows (document, first token within it, count) covering tokens [start, start + count) of the stream, cut at its end.
    Array<std::int64_t> spans(std::int64_t start, std::int64_t count) const {
        if (start < 0 || start > tokens() || count < 0) throw std::out_of_range("spans outside the token stream");
        const std::int64_t end = count < tokens() - start ? start + count : tokens();
        std::vector<std::int64_t> rows;
        const auto block = std::upper_bound(offsets_.begin(), offsets_.end() - 1, start) - offsets_.begin() - 1;
        std::int64_t at = offsets_[static_cast<std::size_t>(block)];
        for (std::uint64_t place = static_cast<std::uint64_t>(block) * kBlock; at < end; ++place) {
            const std::uint64_t document = permutation_.apply<std::uint64_t>(place);
            if (document >= documents_) continue;
            const std::int64_t length = length_of(document);
            const std::int64_t first = std::max<std::int64_t>(start - at, 0), last = std::min(end - at, length);
            if (first < last) rows.insert(rows.end(), {static_cast<std::int64_t>(document), first, last - first});
            at += length;
        }
        Array<std::int64_t> result({static_cast<py::ssize_t>(rows.size() / 3), py::ssize_t{3}});
        std::copy(rows.begin(), rows.end(), result.mutable_data());
        return result;
    }

  private:
    // The format puts the lengths at byte 34 of the mapped file: they are not aligned for their type.
    std::int32_t length_of(std::uint64_t document) const {
        std::int32_t length = 0;
        std::memcpy(&length, lengths_ + document * sizeof(length), sizeof(length));
        return length;
    }

    // Documents are read in the order they lie in and added to the block their place falls into: one pass over the
    // lengths, and random access only to the small table of blocks.
    template <typename Word>
    void build() {
        offsets_.assign(permutation_.domain() / kBlock + 1, 0);
        Word places[kBatch];
        for (std::uint64_t first = 0; first < documents_; first += kBatch) {
            const std::uint64_t batch = std::min(kBatch, documents_ - first);
            for (std::uint64_t i = 0; i < kBatch; ++i) places[i] = permutation_.invert<Word>(static_cast<Word>(first + i));
            for (std::uint64_t i = 0; i < batch; ++i) {
                const std::int32_t length = length_of(first + i);
                if (length < 0) throw std::invalid_argument("a document has a negative length");
                offsets_[places[i] / kBlock + 1] += length;
            }
        }
        for (std::size_t block = 1; block < offsets_.size(); ++block) offsets_[block] += offsets_[block - 1];
    }

    Array<std::int32_t> kept_;
    const unsigned char* lengths_;
    std::uint64_t documents_;
    Permutation permutation_;
    std::vector<std::int64_t> offsets_;
};

std::uint64_t permute(std::uint64_t index, std::uint64_t size, std::uint64_t key) {
    if (index >= size) throw std::out_of_range("index outside the permutation");
    return Permutation(size, key).walk(index, size);
}

}  // namespace

void bind_document_order(py::module_& module) {
    module.def("permute", &permute, py::arg("index"), py::arg("size"), py::arg("key"), "Place of index in the keyed permutation of 0 .. size - 1.");
    py::class_<DocumentOrder>(module, "DocumentOrder", "One epoch's token stream: documents in a keyed random order.")
        .def(py::init<Array<std::int32_t>, std::uint64_t>(), py::arg("lengths"), py::arg("key"))
        .def_property_readonly("tokens", &DocumentOrder::tokens)
        .def("spans", &DocumentOrder::spans, py::arg("start"), py::arg("count"), "int64 [n, 3]: document, first token in it, count.");
}

}  // namespace snow
