// MinHash of source code: texts -> word n-grams -> minima under random permutations -> band keys; and the exact Jaccard
// similarity of two texts' n-grams. Broder, "On the resemblance and containment of documents", 1997; Leskovec, Rajaraman,
// Ullman, "Mining of Massive Datasets", chapter 3, for bands. Twin: megatron_snow/corpus/reference.py.
//
// A permutation is x -> a x + b on 32-bit numbers, a odd: the upper half of an n-gram's mixed 64-bit hash is random
// already, so that a bijection linear in it does (the tests hold mean and spread of the estimate to the formula's).
#include <algorithm>
#include <limits>
#include <memory>

#include "bindings.hpp"
#include "parallel.hpp"
#include "permutation.hpp"
#include "words.hpp"

namespace snow {
namespace {

constexpr std::uint64_t kSeed = 1;           // of the permutations; part of the method: equal corpora cluster equally in every recipe
constexpr std::size_t kMostHashes = 4096;    // bands x rows; sixteen times what anyone uses
constexpr std::size_t kMostWords = 1024;     // of an n-gram

using Words32 = std::vector<std::uint32_t>;

struct Permutations {
    explicit Permutations(std::size_t count) : multiply(count), add(count) {
        std::uint64_t state = kSeed;
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t random = split_mix(state);
            multiply[i] = static_cast<std::uint32_t>(random) | 1;
            add[i] = static_cast<std::uint32_t>(random >> 32);
        }
    }
    Words32 multiply, add;
};

#if defined(__x86_64__) && defined(__GNUC__)
#define SNOW_INLINE inline __attribute__((always_inline))
#define SNOW_DISPATCH 1
#else
#define SNOW_INLINE inline
#define SNOW_DISPATCH 0
#endif

// minima[p] = the least of multiply[p] x + add[p] over x; four x at a time, so that arithmetic and not memory is the limit.
SNOW_INLINE void minima_plain(const Words32& xs, const Permutations& by, std::uint32_t* __restrict minima) {
    const std::size_t count = by.multiply.size();
    const std::uint32_t* __restrict multiply = by.multiply.data();
    const std::uint32_t* __restrict add = by.add.data();
    std::fill_n(minima, count, std::numeric_limits<std::uint32_t>::max());
    const std::size_t fours = xs.size() / 4 * 4;
    for (std::size_t i = 0; i < fours; i += 4) {
        const std::uint32_t x0 = xs[i], x1 = xs[i + 1], x2 = xs[i + 2], x3 = xs[i + 3];
        for (std::size_t p = 0; p < count; ++p) {
            const std::uint32_t low = std::min(multiply[p] * x0 + add[p], multiply[p] * x1 + add[p]);
            const std::uint32_t high = std::min(multiply[p] * x2 + add[p], multiply[p] * x3 + add[p]);
            minima[p] = std::min(minima[p], std::min(low, high));
        }
    }
    for (std::size_t i = fours; i < xs.size(); ++i)
        for (std::size_t p = 0; p < count; ++p) minima[p] = std::min(minima[p], multiply[p] * xs[i] + add[p]);
}

using Minima = void (*)(const Words32&, const Permutations&, std::uint32_t*);

void minima_any(const Words32& xs, const Permutations& by, std::uint32_t* minima) { minima_plain(xs, by, minima); }
#if SNOW_DISPATCH
__attribute__((target("avx2"))) void minima_avx2(const Words32& xs, const Permutations& by, std::uint32_t* minima) { minima_plain(xs, by, minima); }
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"))) void minima_avx512(const Words32& xs, const Permutations& by, std::uint32_t* minima) {
    minima_plain(xs, by, minima);
}
#endif

// The widest the processor has; all give the same numbers.
Minima fastest() {
#if SNOW_DISPATCH
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) return minima_avx512;
    if (__builtin_cpu_supports("avx2")) return minima_avx2;
#endif
    return minima_any;
}

struct View {
    Bytes data;
    std::size_t size;
};

// Where the bytes objects of a list are; the list must outlive the views.
std::vector<View> views(const py::list& texts) {
    std::vector<View> found;
    found.reserve(texts.size());
    for (const py::handle text : texts) {
        char* data = nullptr;
        py::ssize_t size = 0;
        if (PyBytes_AsStringAndSize(text.ptr(), &data, &size) != 0) throw py::error_already_set();
        found.push_back({reinterpret_cast<Bytes>(data), static_cast<std::size_t>(size)});
    }
    return found;
}

void check_width(std::size_t words) {
    if (words == 0 || words > kMostWords) throw std::invalid_argument("an n-gram has 1 to " + std::to_string(kMostWords) + " words, not " + std::to_string(words));
}

void sort_distinct(std::vector<std::uint64_t>& values) {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
}

Array<std::uint64_t> band_keys(const py::list& texts, std::size_t words, std::size_t bands, std::size_t rows, std::size_t threads) {
    check_width(words);
    if (bands == 0 || rows == 0 || bands > kMostHashes || rows > kMostHashes / bands) throw std::invalid_argument("bands x rows must be 1 to " + std::to_string(kMostHashes));
    const std::vector<View> all = views(texts);
    Array<std::uint64_t> keys({static_cast<py::ssize_t>(all.size()), static_cast<py::ssize_t>(bands)});
    std::uint64_t* out = keys.mutable_data();
    const py::gil_scoped_release release;
    const Permutations permutations(bands * rows);
    const Minima find = fastest();
    constexpr std::size_t kTogether = 16;  // texts a thread takes at a time
    in_parallel((all.size() + kTogether - 1) / kTogether, threads, [&](std::size_t group) {
        std::vector<std::uint64_t> hashes, ngrams;
        Words32 xs, minima(bands * rows);
        for (std::size_t i = group * kTogether; i < std::min((group + 1) * kTogether, all.size()); ++i) {
            ngrams_of(all[i].data, all[i].size, words, hashes, ngrams);
            xs.clear();
            for (const std::uint64_t ngram : ngrams) xs.push_back(static_cast<std::uint32_t>(ngram >> 32));
            find(xs, permutations, minima.data());
            for (std::size_t band = 0; band < bands; ++band) {
                std::uint64_t key = 0;
                for (std::size_t row = 0; row < rows; ++row) {
                    key = key * kNgramOdd + minima[band * rows + row];
                    key = (key ^ key >> 32) * kNgramMix;
                }
                out[i * bands + band] = key;
            }
        }
    });
    return keys;
}

Array<std::uint64_t> ngrams(const py::bytes& text, std::size_t words) {
    check_width(words);
    py::list one;
    one.append(text);
    const View view = views(one).front();
    std::vector<std::uint64_t> hashes, found;
    {
        const py::gil_scoped_release release;
        ngrams_of(view.data, view.size, words, hashes, found);
        sort_distinct(found);
    }
    return Array<std::uint64_t>(static_cast<py::ssize_t>(found.size()), found.data());
}

double jaccard(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b) {
    std::size_t common = 0;
    for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        if (a[i] == b[j]) ++common;
        const bool left = a[i] <= b[j], right = b[j] <= a[i];
        i += left;
        j += right;
    }
    return static_cast<double>(common) / static_cast<double>(a.size() + b.size() - common);
}

Array<double> similarities(const py::list& texts, const Array<std::int64_t>& pairs, std::size_t words, std::size_t threads) {
    check_width(words);
    const std::vector<View> all = views(texts);
    if (pairs.ndim() != 2 || pairs.shape(1) != 2) throw std::invalid_argument("pairs must be int64 [pairs, 2]");
    const auto count = static_cast<std::size_t>(pairs.shape(0));
    const std::int64_t* pair = pairs.data();
    for (std::size_t i = 0; i < 2 * count; ++i)
        if (pair[i] < 0 || static_cast<std::size_t>(pair[i]) >= all.size()) throw std::invalid_argument("pairs name text " + std::to_string(pair[i]) + " of " + std::to_string(all.size()));
    Array<double> result(static_cast<py::ssize_t>(count));
    double* out = result.mutable_data();
    const py::gil_scoped_release release;
    std::vector<std::vector<std::uint64_t>> sets(all.size());
    in_parallel(all.size(), threads, [&](std::size_t i) {
        std::vector<std::uint64_t> hashes;
        ngrams_of(all[i].data, all[i].size, words, hashes, sets[i]);
        sort_distinct(sets[i]);
    });
    in_parallel(count, threads, [&](std::size_t i) { out[i] = jaccard(sets[static_cast<std::size_t>(pair[2 * i])], sets[static_cast<std::size_t>(pair[2 * i + 1])]); });
    return result;
}

}  // namespace

void bind_signatures(py::module_& module) {
    module.def("band_keys", &band_keys, py::arg("texts"), py::arg("words"), py::arg("bands"), py::arg("rows"), py::arg("threads") = 1,
               "uint64 [texts, bands]: MinHash band keys of UTF-8 texts (bytes); two texts are candidates where a band's keys are equal.");
    module.def("ngrams", &ngrams, py::arg("text"), py::arg("words"), "Distinct hashes of a text's word n-grams, sorted: uint64 [count], count >= 1.");
    module.def("similarities", &similarities, py::arg("texts"), py::arg("pairs"), py::arg("words"), py::arg("threads") = 1,
               "float64 [pairs]: exact Jaccard similarity of the n-gram sets of each pair of texts, by their places in the list.");
}

}  // namespace snow
