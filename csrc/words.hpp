// What a word of source code is, for near-duplicates and for the n-grams of benchmark problems, and the hashes of words and n-grams.
//
// A word is a longest run of ASCII letters, digits, underscores and bytes from 0x80 on: layout and punctuation do not
// count, and text in any script holds words, whether its UTF-8 is valid or not. Punctuation and spaces outside ASCII
// belong to the word they touch: telling them apart would need Unicode's tables and is not worth them in code.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace snow {

constexpr std::uint64_t kFnvOffset = 0xCBF29CE484222325ull;  // FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv)
constexpr std::uint64_t kFnvPrime = 0x00000100000001B3ull;
constexpr std::uint64_t kNgramOdd = 0x9E3779B97F4A7C15ull;  // 2^64 over the golden ratio
constexpr std::uint64_t kNgramMix = 0xD6E8FEB86659FD93ull;  // rrmxmx's multiplier
constexpr std::uint64_t kNoWords = 0x6E6F20776F726473ull;   // "no words"

using Bytes = const unsigned char*;

// Byte -> what of it counts: 0 where no word holds it, its lower case where letters are folded.
template <bool Fold>
constexpr std::array<unsigned char, 256> word_bytes() {
    std::array<unsigned char, 256> table{};
    for (int byte = 0; byte < 256; ++byte) {
        const bool upper = byte >= 'A' && byte <= 'Z';
        const bool within = upper || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '_' || byte >= 0x80;
        table[static_cast<std::size_t>(byte)] = static_cast<unsigned char>(!within ? 0 : Fold && upper ? byte + 32 : byte);
    }
    return table;
}

// The FNV-1a hashes of a text's words, in order, behind those that ``hashes`` holds.
template <bool Fold>
void hash_words(Bytes text, std::size_t size, std::vector<std::uint64_t>& hashes) {
    static constexpr auto kTable = word_bytes<Fold>();
    for (std::size_t i = 0; i < size; ++i) {
        unsigned char byte = kTable[text[i]];
        if (byte == 0) continue;
        std::uint64_t hash = kFnvOffset;
        do {
            hash = (hash ^ byte) * kFnvPrime;
        } while (++i < size && (byte = kTable[text[i]]) != 0);
        hashes.push_back(hash);
    }
}

inline std::uint64_t mixed(std::uint64_t value) {
    value ^= value >> 32;
    value *= kNgramMix;
    return value ^ value >> 32;
}

// use(hash) for each run of ``width`` words (of all words, where they are fewer), in order: width and word hashes as
// digits of a number in base kNgramOdd, mixed. The digits roll: a step costs the same for any width.
template <typename Use>
void each_ngram(const std::vector<std::uint64_t>& words, std::size_t width, Use use) {
    if (words.empty()) return;
    if (width > words.size()) width = words.size();
    std::uint64_t highest = 1;  // the place of the first word
    for (std::size_t i = 1; i < width; ++i) highest *= kNgramOdd;
    const std::uint64_t lead = width * highest * kNgramOdd;
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < width; ++i) number = number * kNgramOdd + words[i];
    use(mixed(number + lead));
    for (std::size_t i = width; i < words.size(); ++i) {
        number = (number - words[i - width] * highest) * kNgramOdd + words[i];
        use(mixed(number + lead));
    }
}

// The hashes of a document's n-grams, with repetitions; one hash of its bytes where it has no word. ``words`` is scratch.
inline void ngrams_of(Bytes text, std::size_t size, std::size_t width, std::vector<std::uint64_t>& words, std::vector<std::uint64_t>& ngrams) {
    words.clear();
    ngrams.clear();
    hash_words<false>(text, size, words);
    if (words.empty()) {
        std::uint64_t hash = kFnvOffset;
        for (std::size_t i = 0; i < size; ++i) hash = (hash ^ text[i]) * kFnvPrime;
        ngrams.push_back(mixed(hash ^ kNoWords));
        return;
    }
    ngrams.reserve(words.size());
    each_ngram(words, width, [&](std::uint64_t hash) { ngrams.push_back(hash); });
}

}  // namespace snow
