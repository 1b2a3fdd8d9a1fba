// Opening a tier: the header, sizes and document lengths of its shards' .idx files (megatron-core's format), read by
// several threads, so that thousands of shards on a far file system cost round trips side by side. Reads with pread:
// a file cut short under us is an error, not a signal. What is wrong with a shard is said by number: Python names it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include <pybind11/stl.h>

#include "bindings.hpp"
#include "digest.hpp"
#include "parallel.hpp"

namespace snow {
namespace {

constexpr std::size_t kHeader = 34;
constexpr std::size_t kChunk = std::size_t{1} << 19;  // bytes read at a time: stays in the second-level cache; a multiple of 64
constexpr char kMagic[] = "MMIDIDX\0";                // with the literal's own zero the format's nine bytes
constexpr std::int64_t kMostTokens = 2147483647;      // in a document
constexpr std::int64_t kItemSizes[] = {0, 1, 1, 2, 4, 8, 8, 4, 2};  // bytes of a token by the format's type code

class File {
  public:
    explicit File(const std::string& path) : handle_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        if (handle_ < 0) throw std::invalid_argument("cannot be opened");
    }
    ~File() { close(handle_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    void read(void* to, std::size_t count, std::size_t from) const {
        auto* bytes = static_cast<unsigned char*>(to);
        while (count > 0) {
            const ssize_t got = pread(handle_, bytes, count, static_cast<off_t>(from));
            if (got <= 0) throw std::invalid_argument("cannot be read to its end");
            bytes += got;
            from += static_cast<std::size_t>(got);
            count -= static_cast<std::size_t>(got);
        }
    }

    std::int64_t size() const {
        struct stat status {};
        if (fstat(handle_, &status) != 0) throw std::invalid_argument("cannot be opened");
        return status.st_size;
    }

  private:
    int handle_;
};

struct Shard {
    std::int64_t sequences = 0, documents = 0, item = 0, bin_bytes = 0;
    std::array<std::uint64_t, 2> digest{};
};

template <typename T>
T value(const unsigned char* bytes) {
    T result;
    std::memcpy(&result, bytes, sizeof(T));
    return result;
}

Shard read_header(const std::string& prefix) {
    const File idx(prefix + ".idx");
    const std::int64_t size = idx.size();
    if (size < static_cast<std::int64_t>(kHeader)) throw std::invalid_argument("is cut short");
    unsigned char raw[kHeader];
    idx.read(raw, kHeader, 0);
    const unsigned code = raw[17];
    if (std::memcmp(raw, kMagic, 9) != 0 || value<std::int64_t>(raw + 9) != 1 || code < 1 || code > 8) throw std::invalid_argument("has another format");
    Shard shard;
    shard.sequences = value<std::int64_t>(raw + 18);
    shard.documents = value<std::int64_t>(raw + 26) - 1;
    shard.item = kItemSizes[code];
    const std::int64_t most = size / 8;  // keeps what follows from overflowing
    if (shard.sequences < 0 || shard.sequences > most || shard.documents < 0 || shard.documents > most) throw std::invalid_argument("is cut short");
    const std::int64_t asked = static_cast<std::int64_t>(kHeader) + shard.sequences * 12 + (shard.documents + 1) * 8;
    if (size != asked && size != asked + shard.sequences) throw std::invalid_argument("is cut short");
    struct stat bin {};
    if (stat((prefix + ".bin").c_str(), &bin) != 0) throw std::invalid_argument("has no .bin");
    shard.bin_bytes = bin.st_size;
    return shard;
}

// Streams one shard's .idx: sums sequence lengths into documents, checks that they fill .bin.
class Reader {
  public:
    Reader(const std::string& prefix, Shard& shard, std::int32_t* lengths) : idx_(prefix + ".idx"), shard_(shard), lengths_(lengths) {}

    void run() {
        const auto sequences = static_cast<std::size_t>(shard_.sequences), documents = static_cast<std::size_t>(shard_.documents);
        const std::size_t bounds = kHeader + 12 * sequences;
        if (sequences == documents && one_each(bounds, documents)) {
            idx_.read(lengths_, documents * 4, kHeader);
        } else {
            sum_sequences(bounds, sequences, documents);
        }
        std::int64_t tokens = 0, lowest = 0;
        for (std::size_t i = 0; i < documents; ++i) {
            tokens += lengths_[i];
            lowest = std::min<std::int64_t>(lowest, lengths_[i]);
        }
        if (lowest < 0) throw std::invalid_argument("a document has a negative length");
        if (tokens * shard_.item != shard_.bin_bytes) {
            throw std::invalid_argument("document lengths add up to " + std::to_string(tokens) + " tokens, the files hold " + std::to_string(shard_.bin_bytes / shard_.item));
        }
    }

    void fingerprint() {
        Digest digest;
        const auto size = static_cast<std::size_t>(idx_.size());
        std::vector<unsigned char> chunk(kChunk);
        for (std::size_t at = 0; at < size; at += kChunk) {
            const std::size_t count = std::min(kChunk, size - at);
            idx_.read(chunk.data(), count, at);
            digest.update(chunk.data(), count);
        }
        shard_.digest = digest.result();
    }

  private:
    // Whether document i is sequence i for all: then lengths need no summing.
    bool one_each(std::size_t bounds, std::size_t documents) {
        std::vector<std::int64_t> some(kChunk / 8);
        for (std::size_t first = 0; first <= documents; first += some.size()) {
            const std::size_t count = std::min(some.size(), documents + 1 - first);
            idx_.read(some.data(), count * 8, bounds + 8 * first);
            std::int64_t differ = 0;
            for (std::size_t i = 0; i < count; ++i) differ |= some[i] ^ static_cast<std::int64_t>(first + i);
            if (differ != 0) return false;
        }
        return true;
    }

    void sum_sequences(std::size_t bounds, std::size_t sequences, std::size_t documents) {
        std::vector<std::int32_t> each(sequences);
        std::vector<std::int64_t> ends(documents + 1);
        idx_.read(each.data(), sequences * 4, kHeader);
        idx_.read(ends.data(), ends.size() * 8, bounds);
        if (ends.front() != 0 || ends.back() != shard_.sequences) throw std::invalid_argument("documents do not span all sequences");
        for (std::size_t i = 0; i < documents; ++i) {
            if (ends[i] > ends[i + 1] || ends[i] < 0 || ends[i + 1] > shard_.sequences) throw std::invalid_argument("document " + std::to_string(i) + " ends before it begins");
            std::int64_t tokens = 0;
            for (std::int64_t k = ends[i]; k < ends[i + 1]; ++k) {
                if (each[static_cast<std::size_t>(k)] < 0) throw std::invalid_argument("a document has a negative length");
                tokens += each[static_cast<std::size_t>(k)];
            }
            if (tokens > kMostTokens) throw std::invalid_argument("a document of " + std::to_string(tokens) + " tokens, the most is 2^31 - 1");
            lengths_[i] = static_cast<std::int32_t>(tokens);
        }
    }

    File idx_;
    Shard& shard_;
    std::int32_t* lengths_;
};

py::tuple scan_shards(const std::vector<std::string>& prefixes, bool fingerprints, std::size_t threads) {
    std::vector<Shard> shards(prefixes.size());
    {
        py::gil_scoped_release release;
        in_parallel(prefixes.size(), threads, [&](std::size_t i) { shards[i] = read_header(prefixes[i]); });
    }
    std::vector<std::int64_t> first(1, 0);
    for (const Shard& shard : shards) first.push_back(first.back() + shard.documents);
    Array<std::int32_t> lengths(first.back());
    std::int32_t* values = lengths.mutable_data();
    {
        py::gil_scoped_release release;
        in_parallel(prefixes.size(), threads, [&](std::size_t i) {
            Reader reader(prefixes[i], shards[i], values + first[i]);
            reader.run();
            if (fingerprints) reader.fingerprint();
        });
    }
    Array<std::int64_t> facts({static_cast<py::ssize_t>(shards.size()), py::ssize_t{4}});
    std::int64_t* row = facts.mutable_data();
    for (const Shard& shard : shards) {
        *row++ = shard.documents;
        *row++ = shard.bin_bytes / shard.item;
        *row++ = static_cast<std::int64_t>(shard.digest[0]);
        *row++ = static_cast<std::int64_t>(shard.digest[1]);
    }
    return py::make_tuple(facts, lengths);
}

py::tuple digest_of(const py::buffer& bytes) {
    const py::buffer_info info = bytes.request();
    const auto count = static_cast<std::size_t>(info.size * info.itemsize);
    Digest digest;
    {
        py::gil_scoped_release release;
        digest.update(static_cast<const unsigned char*>(info.ptr), count);
    }
    const auto result = digest.result();
    return py::make_tuple(result[0], result[1]);
}

}  // namespace

void bind_shard_scan(py::module_& module) {
    module.def("scan_shards", &scan_shards, py::arg("prefixes"), py::arg("fingerprints"), py::arg("threads"),
               "(int64 [shards, 4]: documents, tokens, fingerprint of .idx in two halves or 0; int32 [documents]: tokens of each). ValueError 'shard:reason'.");
    module.def("digest", &digest_of, py::arg("bytes"), "128-bit fingerprint of a contiguous buffer, in two halves.");
}

}  // namespace snow
