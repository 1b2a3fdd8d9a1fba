// Copies the pieces of a sample out of mapped .bin files into one array of int64. Shards are attached when first needed,
// so that opening thousands costs nothing; every offset is checked before it is followed.
#include <cstring>
#include <optional>
#include <vector>

#include "bindings.hpp"

namespace snow {
namespace {

struct Attached {
    Array<unsigned char> bin;
    Array<std::int64_t> pointers, bounds;  // first byte of each sequence; first sequence of each document, then their number
    int code = 0;
};

std::int64_t entry(const Array<std::int64_t>& array, std::int64_t i) {  // not aligned: the arrays lie in a mapped .idx
    std::int64_t value = 0;
    std::memcpy(&value, static_cast<const unsigned char*>(static_cast<const void*>(array.data())) + 8 * i, 8);
    return value;
}

template <typename T>
void widen(const unsigned char* from, std::int64_t count, std::int64_t* to) {
    for (std::int64_t i = 0; i < count; ++i) {
        T token;
        std::memcpy(&token, from + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
        to[i] = static_cast<std::int64_t>(token);
    }
}

using Widen = void (*)(const unsigned char*, std::int64_t, std::int64_t*);

struct Type {
    std::int64_t bytes;
    Widen widen;
};

// By the format's type code; 6 and 7 are floating point, no tokens.
constexpr Type kTypes[] = {{0, nullptr}, {1, widen<std::uint8_t>}, {1, widen<std::int8_t>}, {2, widen<std::int16_t>}, {4, widen<std::int32_t>},
                           {8, widen<std::int64_t>}, {0, nullptr}, {0, nullptr}, {2, widen<std::uint16_t>}};

class SampleReader {
  public:
    explicit SampleReader(Array<std::int64_t> first_document) : first_(first_document.data(), first_document.data() + first_document.size()), shards_(first_.size() - 1) {
        if (first_.size() < 2) throw std::invalid_argument("no shards");
    }

    void attach(std::size_t shard, int code, Array<unsigned char> bin, Array<std::int64_t> pointers, Array<std::int64_t> bounds) {
        if (code < 1 || code > 8 || kTypes[code].widen == nullptr) throw std::invalid_argument("type code " + std::to_string(code) + " is not of whole numbers");
        const std::int64_t documents = first_.at(shard + 1) - first_.at(shard);
        if (bounds.size() != documents + 1) throw std::invalid_argument("another number of documents");
        shards_.at(shard) = Attached{std::move(bin), std::move(pointers), std::move(bounds), code};
    }

    // rows: (document through all shards, first token within it, count). A shard to attach first, or the sample as
    // (tokens int64[], boundaries int64[rows + 1], shard and document in it int64[rows, 2]).
    py::object gather(const Array<std::int64_t>& rows) const {
        const auto pieces = static_cast<std::size_t>(rows.shape(0));
        Array<std::int64_t> boundaries(static_cast<py::ssize_t>(pieces + 1)), places({static_cast<py::ssize_t>(pieces), py::ssize_t{2}});
        std::int64_t* ends = boundaries.mutable_data();
        std::int64_t* place = places.mutable_data();
        const std::int64_t* row = rows.data();
        std::vector<const unsigned char*> from(pieces);
        ends[0] = 0;
        for (std::size_t i = 0; i < pieces; ++i, row += 3, place += 2) {
            const std::int64_t document = row[0];
            if (document < 0 || document >= first_.back()) throw std::out_of_range("no such document");
            const auto shard = static_cast<std::size_t>(std::upper_bound(first_.begin(), first_.end(), document) - first_.begin() - 1);
            if (!shards_[shard]) return py::int_(shard);
            place[0] = static_cast<std::int64_t>(shard);
            place[1] = document - first_[shard];
            from[i] = locate(*shards_[shard], place[1], row[1], row[2]);
            ends[i + 1] = ends[i] + row[2];
        }
        Array<std::int64_t> tokens(ends[pieces]);
        std::int64_t* to = tokens.mutable_data();
        {
            py::gil_scoped_release release;  // the pages may have to come from a disk
            for (std::size_t i = 0; i < pieces; ++i) {
                const auto shard = static_cast<std::size_t>(places.data()[2 * i]);
                kTypes[shards_[shard]->code].widen(from[i], ends[i + 1] - ends[i], to + ends[i]);
            }
        }
        return py::make_tuple(tokens, boundaries, places);
    }

  private:
    static const unsigned char* locate(const Attached& shard, std::int64_t document, std::int64_t first, std::int64_t count) {
        const std::int64_t item = kTypes[shard.code].bytes, bytes = shard.bin.size();
        if (count == 0) return shard.bin.data();
        const std::int64_t sequence = entry(shard.bounds, document);
        if (sequence < 0 || sequence >= shard.pointers.size()) throw std::invalid_argument("document " + std::to_string(document) + " begins at sequence " + std::to_string(sequence) + ", which is not there");
        const std::int64_t start = entry(shard.pointers, sequence);
        if (first < 0 || count < 0 || first > bytes || count > bytes || start < 0 || start > bytes || start % item != 0 || start + (first + count) * item > bytes) {
            throw std::invalid_argument("document " + std::to_string(document) + " lies at byte " + std::to_string(start) + " of " + std::to_string(bytes) + " and further");
        }
        return shard.bin.data() + start + first * item;
    }

    std::vector<std::int64_t> first_;
    std::vector<std::optional<Attached>> shards_;
};

}  // namespace

void bind_sample_reader(py::module_& module) {
    py::class_<SampleReader>(module, "SampleReader", "Pieces of documents in mapped shards, copied into one array.")
        .def(py::init<Array<std::int64_t>>(), py::arg("first_document"))
        .def("attach", &SampleReader::attach, py::arg("shard"), py::arg("code"), py::arg("bin"), py::arg("pointers"), py::arg("bounds"))
        .def("gather", &SampleReader::gather, py::arg("rows"), "A shard to attach first, or (tokens, boundaries, shard and document in it).");
}

}  // namespace snow
