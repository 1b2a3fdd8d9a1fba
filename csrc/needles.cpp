// Benchmark problems inside documents: each item's text, white space and case removed, as a whole; and its word n-grams.
//
// Whole texts: eight bytes of each item, those that the fewest items share, are its anchor; every eight bytes of the
// document are looked up in a bit table of anchors, and what is found there is compared whole. n-grams: the hashes of
// the document's runs of n words (case folded) are looked up in another bit table, then in a table of the items' n-grams.
// The work for a document does not depend on the number of items. Twin: megatron_snow/corpus/reference.py.
#include <algorithm>
#include <cstring>
#include <optional>
#include <tuple>
#include <unordered_map>

#include <pybind11/stl.h>

#include "bindings.hpp"
#include "permutation.hpp"
#include "words.hpp"

namespace snow {
namespace {

constexpr std::size_t kAnchor = 8;          // bytes: one 64-bit word
constexpr unsigned kTableBits = 22;         // half a MiB: stays in the second-level cache, and 30,000 items fill a hundredth

std::uint64_t spread(std::uint64_t value) { return value * kNgramOdd >> (64 - kTableBits); }

class BitTable {
  public:
    BitTable() : words_((std::size_t{1} << kTableBits) / 64) {}
    void set(std::uint64_t value) { words_[spread(value) / 64] |= std::uint64_t{1} << spread(value) % 64; }
    bool has(std::uint64_t value) const { return words_[spread(value) / 64] >> spread(value) % 64 & 1; }

  private:
    std::vector<std::uint64_t> words_;
};

// ASCII white space out (as Python's str.split has it, with the separators 0x1C to 0x1F), ASCII letters to lower case.
void squeeze(Bytes text, std::size_t size, std::vector<unsigned char>& out) {
    static constexpr auto kKept = [] {
        std::array<unsigned char, 256> table{};
        for (int byte = 0; byte < 256; ++byte) {
            const bool space = (byte >= 9 && byte <= 13) || (byte >= 28 && byte <= 32);
            table[static_cast<std::size_t>(byte)] = static_cast<unsigned char>(space ? 0 : byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
        }
        return table;
    }();
    static constexpr auto kSpace = [] {
        std::array<bool, 256> table{};
        for (int byte = 0; byte < 256; ++byte) table[static_cast<std::size_t>(byte)] = (byte >= 9 && byte <= 13) || (byte >= 28 && byte <= 32);
        return table;
    }();
    out.resize(size);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < size; ++i) {
        out[kept] = kKept[text[i]];
        kept += !kSpace[text[i]];
    }
    out.resize(kept);
}

class Needles {
  public:
    // whole: for each item its text as it is compared, or nothing; words: for each item the text whose n-grams are looked
    // for, or nothing. overlap: share of the words in an item's n-grams that those found in a document must cover.
    Needles(const std::vector<std::string>& whole, const std::vector<std::string>& words, std::size_t width, double overlap) : width_(width), overlap_(overlap) {
        if (whole.size() != words.size()) throw std::invalid_argument("two texts for each item are needed");
        if (width == 0 || overlap <= 0 || overlap > 1) throw std::invalid_argument("an n-gram has words, and the overlap is above 0 and at most 1");
        for (const std::string& text : whole)
            if (!text.empty() && text.size() < kAnchor) throw std::invalid_argument("an item has 8 bytes at least");
        add_whole(whole);
        add_ngrams(words);
    }

    // [(item, whole, share of its words)] in order of items: share is 1 where the text is there as a whole. compared: the
    // text with white space and case outside ASCII taken out, where it has any.
    std::vector<std::tuple<std::size_t, bool, double>> find(const py::bytes& text, const std::optional<py::bytes>& compared) const {
        const View words = view(text), whole = compared ? view(*compared) : words;
        const py::gil_scoped_release release;
        std::vector<std::tuple<std::size_t, bool, double>> found;
        for (const std::uint32_t item : find_whole(whole.data, whole.size)) found.emplace_back(item, true, 1.0);
        const std::size_t exact = found.size();
        for (const auto& [item, share] : find_ngrams(words.data, words.size)) {
            const auto end = found.begin() + static_cast<std::ptrdiff_t>(exact);
            if (std::none_of(found.begin(), end, [item = item](const auto& one) { return std::get<0>(one) == item; })) found.emplace_back(item, false, share);
        }
        std::sort(found.begin(), found.end());
        return found;
    }

  private:
    struct View {
        Bytes data;
        std::size_t size;
    };

    static View view(const py::bytes& text) {
        char* data = nullptr;
        py::ssize_t size = 0;
        if (PyBytes_AsStringAndSize(text.ptr(), &data, &size) != 0) throw py::error_already_set();
        return {reinterpret_cast<Bytes>(data), static_cast<std::size_t>(size)};
    }

    struct Place {
        std::uint32_t item, position;
    };

    static std::uint64_t window(const unsigned char* at) {
        std::uint64_t value = 0;
        std::memcpy(&value, at, kAnchor);
        return value;
    }

    void add_whole(const std::vector<std::string>& texts) {
        whole_ = texts;
        std::unordered_map<std::uint64_t, std::uint32_t> shared;
        const auto start = [](const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); };
        for (const std::string& text : texts)
            for (std::size_t i = 0; i + kAnchor <= text.size(); ++i) ++shared[window(start(text) + i)];
        for (std::size_t item = 0; item < texts.size(); ++item) {
            const std::string& text = texts[item];
            if (text.empty()) continue;
            std::size_t best = 0;
            for (std::size_t i = 1; i + kAnchor <= text.size(); ++i)
                if (shared[window(start(text) + i)] < shared[window(start(text) + best)]) best = i;
            const std::uint64_t anchor = window(start(text) + best);
            anchors_.set(anchor);
            by_anchor_[anchor].push_back({static_cast<std::uint32_t>(item), static_cast<std::uint32_t>(best)});
        }
    }

    void add_ngrams(const std::vector<std::string>& texts) {
        sizes_.resize(texts.size());
        for (std::size_t item = 0; item < texts.size(); ++item) {
            std::vector<std::uint64_t> words;
            hash_words<true>(reinterpret_cast<Bytes>(texts[item].data()), texts[item].size(), words);
            if (words.size() < width_) continue;
            std::size_t end = 0;
            const std::vector<std::size_t> telling = telling_before(texts[item]);
            std::size_t position = 0;
            each_ngram(words, width_, [&](std::uint64_t hash) {
                if (2 * (telling[position + width_] - telling[position]) >= width_) {
                    ngrams_.set(hash);
                    by_ngram_[hash].push_back({static_cast<std::uint32_t>(item), static_cast<std::uint32_t>(position)});
                    sizes_[item] += position + width_ - std::max(position, end);
                    end = position + width_;
                }
                ++position;
            });
        }
    }

    // How many of the first i words have two characters and a letter: "1 2 3 4 5 6 7 8 9 10" and "a b c d e f g h" are in
    // files that have seen no benchmark, so that n-grams are looked for only where half of their words tell more.
    static std::vector<std::size_t> telling_before(const std::string& text) {
        static constexpr auto kTable = word_bytes<true>();
        std::vector<std::size_t> counts(1);
        for (std::size_t i = 0; i < text.size(); ++i) {
            unsigned char byte = kTable[static_cast<unsigned char>(text[i])];
            if (byte == 0) continue;
            std::size_t size = 0;
            bool letter = false;
            do {
                letter |= byte > '9' && byte != '_';
                ++size;
            } while (++i < text.size() && (byte = kTable[static_cast<unsigned char>(text[i])]) != 0);
            counts.push_back(counts.back() + (letter && size > 1));
        }
        return counts;
    }

    std::vector<std::uint32_t> find_whole(Bytes text, std::size_t size) const {
        std::vector<std::uint32_t> found;
        if (by_anchor_.empty()) return found;
        std::vector<unsigned char> data;
        squeeze(text, size, data);
        for (std::size_t i = 0; i + kAnchor <= data.size(); ++i) {
            const std::uint64_t here = window(data.data() + i);
            if (!anchors_.has(here)) continue;
            const auto places = by_anchor_.find(here);
            if (places == by_anchor_.end()) continue;
            for (const Place& place : places->second) {
                const std::string& sought = whole_[place.item];
                if (place.position > i || sought.size() > data.size() - (i - place.position)) continue;
                if (std::memcmp(data.data() + i - place.position, sought.data(), sought.size()) == 0) found.push_back(place.item);
            }
        }
        std::sort(found.begin(), found.end());
        found.erase(std::unique(found.begin(), found.end()), found.end());
        return found;
    }

    std::vector<std::pair<std::uint32_t, double>> find_ngrams(Bytes text, std::size_t size) const {
        std::vector<std::pair<std::uint32_t, double>> found;
        if (by_ngram_.empty()) return found;
        std::vector<std::uint64_t> words;
        hash_words<true>(text, size, words);
        if (words.size() < width_) return found;
        std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> met;  // item -> positions of its n-grams
        each_ngram(words, width_, [&](std::uint64_t hash) {
            if (!ngrams_.has(hash)) return;
            const auto places = by_ngram_.find(hash);
            if (places == by_ngram_.end()) return;
            for (const Place& place : places->second) met[place.item].push_back(place.position);
        });
        for (auto& [item, positions] : met) {
            std::sort(positions.begin(), positions.end());
            std::size_t covered = 0, end = 0;
            for (const std::size_t position : positions) {
                const std::size_t begin = std::max<std::size_t>(position, end);
                end = std::max(end, position + width_);
                covered += end - std::min(begin, end);
            }
            const double share = static_cast<double>(covered) / static_cast<double>(sizes_[item]);
            if (share >= overlap_) found.emplace_back(item, share);
        }
        return found;
    }

    std::size_t width_;
    double overlap_;
    std::vector<std::string> whole_;
    std::vector<std::size_t> sizes_;  // of the items: words that the n-grams looked for cover
    BitTable anchors_, ngrams_;
    std::unordered_map<std::uint64_t, std::vector<Place>> by_anchor_, by_ngram_;
};

}  // namespace

void bind_needles(py::module_& module) {
    py::class_<Needles>(module, "Needles", "Items to look for in documents: as a whole, white space and case removed, and by word n-grams.")
        .def(py::init<const std::vector<std::string>&, const std::vector<std::string>&, std::size_t, double>(), py::arg("whole"), py::arg("words"),
             py::arg("width"), py::arg("overlap"))
        .def("find", &Needles::find, py::arg("text"), py::arg("compared") = std::nullopt, "[(item, found as a whole, share of its words covered)] of the items in a UTF-8 text (bytes), by item.");
}

}  // namespace snow
