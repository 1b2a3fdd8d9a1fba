// The token stream of one epoch: all documents in a keyed random order, addressed by token, with nothing stored per
// document but its length. The order lists the keyed bijection's values for 0, 1, 2, ... and skips those that name no
// document. Every 64th place's token offset is kept (1/4 byte a document at most): a look-up is a binary search there and
// a walk of at most 64 places, checked against the next offset: offsets restored from a file that do not belong to the
// lengths are found when they are used. Built at 4 ns a document and thread.
#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "bindings.hpp"
#include "permutation.hpp"

namespace snow {
namespace {

constexpr std::uint64_t kBlock = 64;   // places between two kept offsets: a walk of 64 takes about 1 us
constexpr std::uint64_t kBatch = 256;  // documents placed together, so that the compiler uses vector instructions

constexpr std::uint64_t kShare = std::uint64_t{1} << 20;  // documents that are worth a thread: 4 ms

// Instructions for the machine it runs on, chosen when loaded; the plain build is for any x86-64.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define SNOW_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SNOW_CLONES
#endif

SNOW_CLONES void place_batch(const Permutation& permutation, std::uint32_t first, std::uint32_t* places) {
    for (std::uint32_t i = 0; i < kBatch; ++i) places[i] = permutation.invert<std::uint32_t>(first + i);
}

SNOW_CLONES void place_batch(const Permutation& permutation, std::uint64_t first, std::uint64_t* places) {
    for (std::uint64_t i = 0; i < kBatch; ++i) places[i] = permutation.invert<std::uint64_t>(first + i);
}

SNOW_CLONES void list_block(const Permutation& permutation, std::uint64_t first, std::uint64_t* documents) {
    for (std::uint64_t i = 0; i < kBlock; ++i) documents[i] = permutation.apply<std::uint64_t>(first + i);
}

class DocumentOrder {
  public:
    DocumentOrder(Array<std::int32_t> lengths, std::uint64_t key, std::size_t threads) : DocumentOrder(std::move(lengths), key) {
        py::gil_scoped_release release;
        if (permutation_.bits() <= 32) {
            build<std::uint32_t>(threads);
        } else {
            build<std::uint64_t>(threads);
        }
    }

    DocumentOrder(Array<std::int32_t> lengths, std::uint64_t key, Array<std::int64_t> offsets) : DocumentOrder(std::move(lengths), key) {
        if (offsets.size() != blocks() + 1 || offsets.data()[0] != 0) throw std::invalid_argument("offsets of another order");
        offsets_ = std::move(offsets);
    }

    std::int64_t tokens() const { return offsets_.data()[blocks()]; }
    Array<std::int64_t> offsets() const { return offsets_; }

    // Rows (document, first token within it, count) covering tokens [start, start + count) of the stream, cut at its end.
    Array<std::int64_t> spans(std::int64_t start, std::int64_t count) const {
        if (start < 0 || start > tokens() || count < 0) throw std::out_of_range("spans outside the token stream");
        const std::int64_t end = count < tokens() - start ? start + count : tokens();
        const std::int64_t* offsets = offsets_.data();
        std::vector<std::int64_t> rows;
        for (auto block = static_cast<std::uint64_t>(std::upper_bound(offsets, offsets + blocks(), start) - offsets - 1); offsets[block] < end; ++block) {
            std::int64_t at = offsets[block];
            std::uint64_t listed[kBlock];
            list_block(permutation_, block * kBlock, listed);
            for (const std::uint64_t document : listed) {
                if (document >= documents_) continue;
                const std::int64_t length = length_of(document);
                const std::int64_t first = std::max<std::int64_t>(start - at, 0), last = std::min(end - at, length);
                if (first < last) rows.insert(rows.end(), {static_cast<std::int64_t>(document), first, last - first});
                at += length;
            }
            if (at != offsets[block + 1]) throw std::domain_error("the offsets do not belong to these document lengths");
        }
        Array<std::int64_t> result({static_cast<py::ssize_t>(rows.size() / 3), py::ssize_t{3}});
        std::copy(rows.begin(), rows.end(), result.mutable_data());
        return result;
    }

    // Where in the stream each document begins.
    Array<std::int64_t> starts(const Array<std::int64_t>& documents) const {
        Array<std::int64_t> found(documents.size());
        const std::int64_t* asked = documents.data();
        std::int64_t* begins = found.mutable_data();
        const std::int64_t* offsets = offsets_.data();
        for (py::ssize_t i = 0; i < documents.size(); ++i) {
            if (asked[i] < 0 || static_cast<std::uint64_t>(asked[i]) >= documents_) throw std::out_of_range("a document outside the order");
            const std::uint64_t place = permutation_.invert<std::uint64_t>(static_cast<std::uint64_t>(asked[i]));
            std::uint64_t listed[kBlock];
            list_block(permutation_, place / kBlock * kBlock, listed);
            begins[i] = offsets[place / kBlock];
            for (std::uint64_t before = 0; before < place % kBlock; ++before) {
                if (listed[before] < documents_) begins[i] += length_of(listed[before]);
            }
        }
        return found;
    }

  private:
    DocumentOrder(Array<std::int32_t> lengths, std::uint64_t key)
        : kept_(std::move(lengths)), lengths_(static_cast<const unsigned char*>(static_cast<const void*>(kept_.data()))), documents_(static_cast<std::uint64_t>(kept_.size())), permutation_(documents_, key) {}

    py::ssize_t blocks() const { return static_cast<py::ssize_t>(permutation_.domain() / kBlock); }

    // The format puts the lengths at byte 34 of the mapped file: they are not aligned for their type.
    std::int32_t length_of(std::uint64_t document) const {
        std::int32_t length = 0;
        std::memcpy(&length, lengths_ + document * sizeof(length), sizeof(length));
        return length;
    }

    // Documents are read in the order they lie in and added to the block their place falls into: one pass over the
    // lengths, and random access only to a small table of blocks, one a thread.
    template <typename Word>
    bool add_up(std::uint64_t begin, std::uint64_t end, std::int64_t* sums) const {
        Word places[kBatch];
        bool negative = false;
        for (std::uint64_t first = begin; first < end; first += kBatch) {
            place_batch(permutation_, static_cast<Word>(first), places);
            const std::uint64_t batch = std::min(kBatch, end - first);
            for (std::uint64_t i = 0; i < batch; ++i) {
                const std::int32_t length = length_of(first + i);
                negative |= length < 0;
                sums[places[i] / kBlock] += length;
            }
        }
        return negative;
    }

    template <typename Word>
    void build(std::size_t threads) {
        const auto count = static_cast<std::size_t>(blocks());
        const std::uint64_t workers = std::max<std::uint64_t>(1, std::min<std::uint64_t>(threads, documents_ / kShare));
        std::vector<std::vector<std::int64_t>> sums(workers, std::vector<std::int64_t>(count));
        std::vector<char> negative(workers);
        const auto work = [&](std::uint64_t k) { negative[k] = add_up<Word>(documents_ * k / workers, documents_ * (k + 1) / workers, sums[k].data()); };
        std::vector<std::thread> others;
        for (std::uint64_t k = 1; k < workers; ++k) others.emplace_back(work, k);
        work(0);
        for (auto& thread : others) thread.join();
        if (std::count(negative.begin(), negative.end(), 0) != static_cast<std::ptrdiff_t>(workers)) throw std::invalid_argument("a document has a negative length");
        py::gil_scoped_acquire acquire;
        offsets_ = Array<std::int64_t>(blocks() + 1);
        std::int64_t* offsets = offsets_.mutable_data();
        offsets[0] = 0;
        for (std::size_t block = 0; block < count; ++block) {
            offsets[block + 1] = offsets[block];
            for (const auto& one : sums) offsets[block + 1] += one[block];
        }
    }

    Array<std::int32_t> kept_;
    const unsigned char* lengths_;
    std::uint64_t documents_;
    Permutation permutation_;
    Array<std::int64_t> offsets_;
};

std::uint64_t permute(std::uint64_t index, std::uint64_t size, std::uint64_t key) {
    if (index >= size) throw std::out_of_range("index outside the permutation");
    return Permutation(size, key).walk(index, size);
}

// Which index each place of the keyed permutation is the place of: permute's inverse.
Array<std::int64_t> unpermute(const Array<std::int64_t>& places, std::uint64_t size, std::uint64_t key) {
    const Permutation permutation(size, key);
    Array<std::int64_t> found(places.size());
    const std::int64_t* asked = places.data();
    std::int64_t* indices = found.mutable_data();
    for (py::ssize_t i = 0; i < places.size(); ++i) {
        if (asked[i] < 0 || static_cast<std::uint64_t>(asked[i]) >= size) throw std::out_of_range("a place outside the permutation");
        indices[i] = static_cast<std::int64_t>(permutation.unwalk(static_cast<std::uint64_t>(asked[i]), size));
    }
    return found;
}

}  // namespace

void bind_document_order(py::module_& module) {
    module.def("permute", &permute, py::arg("index"), py::arg("size"), py::arg("key"), "Place of index in the keyed permutation of 0 .. size - 1.");
    module.def("unpermute", &unpermute, py::arg("places"), py::arg("size"), py::arg("key"), "int64: of each place, the index that permute gives it.");
    py::class_<DocumentOrder>(module, "DocumentOrder", "One epoch's token stream: documents in a keyed random order.")
        .def(py::init<Array<std::int32_t>, std::uint64_t, std::size_t>(), py::arg("lengths"), py::arg("key"), py::arg("threads") = 1)
        .def(py::init<Array<std::int32_t>, std::uint64_t, Array<std::int64_t>>(), py::arg("lengths"), py::arg("key"), py::arg("offsets"))
        .def_property_readonly("tokens", &DocumentOrder::tokens)
        .def_property_readonly("offsets", &DocumentOrder::offsets, "int64: what the third argument restores.")
        .def("spans", &DocumentOrder::spans, py::arg("start"), py::arg("count"), "int64 [n, 3]: document, first token in it, count.")
        .def("starts", &DocumentOrder::starts, py::arg("documents"), "int64: where in the stream each document begins.");
}

}  // namespace snow
