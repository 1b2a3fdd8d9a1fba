// A keyed bijection of the numbers below 2^bits: a shuffle that is computed instead of stored.
//
// Each round adds a key (mod 2^bits), multiplies by an odd key (carries information to higher bits) and xors the upper
// half onto the lower (carries it back). Each of the three can be undone, so that the whole is a bijection with an inverse. Restricting
// it to n <= 2^bits values is up to the caller: skip what is too large when all are listed, or apply it again until the
// result is small enough ("cycle walking") when one is asked for.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>

namespace snow {

constexpr int kRounds = 6;  // joint places of two elements pass a chi-square test over 400,000 keys from here on (4 fail at 8 bits)
constexpr int kSmallestBits = 8;  // under it two odd multipliers too often coincide; listing 256 values costs nothing
constexpr std::uint64_t kLargestDomain = std::uint64_t{1} << 48;

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
inline std::uint64_t split_mix(std::uint64_t& state) {
    std::uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

class Permutation {
  public:
    Permutation(std::uint64_t size, std::uint64_t key) {
        if (size == 0 || size > kLargestDomain) throw std::invalid_argument("a permutation has between 1 and 2^48 elements");
        bits_ = kSmallestBits;
        while ((std::uint64_t{1} << bits_) < size) ++bits_;
        mask_ = (std::uint64_t{1} << bits_) - 1;
        for (int round = 0; round < kRounds; ++round) {
            add_[static_cast<std::size_t>(round)] = split_mix(key);
            const std::uint64_t odd = split_mix(key) | 1;
            multiply_[static_cast<std::size_t>(round)] = odd;
            std::uint64_t inverse = odd;  // right in 3 bits; each step of Newton's method doubles them
            for (int correct = 3; correct < 64; correct *= 2) inverse *= 2 - odd * inverse;
            divide_[static_cast<std::size_t>(round)] = inverse;
        }
    }

    int bits() const { return bits_; }
    std::uint64_t domain() const { return mask_ + 1; }

    // Word may be 32 bits wide where bits() <= 32: only the lowest bits() bits of any product matter.
    template <typename Word>
    Word apply(Word x) const {
        const auto mask = static_cast<Word>(mask_);
        const int shift = (bits_ + 1) / 2;  // half or more: then the xor undoes itself
        for (std::size_t round = 0; round < kRounds; ++round) {
            x = (x + static_cast<Word>(add_[round])) & mask;
            x = (x * static_cast<Word>(multiply_[round])) & mask;
            x ^= x >> shift;
        }
        return x;
    }

    template <typename Word>
    Word invert(Word x) const {
        const auto mask = static_cast<Word>(mask_);
        const int shift = (bits_ + 1) / 2;
        for (std::size_t round = kRounds; round-- > 0;) {
            x ^= x >> shift;
            x = (x * static_cast<Word>(divide_[round])) & mask;
            x = (x - static_cast<Word>(add_[round])) & mask;
        }
        return x;
    }

    std::uint64_t walk(std::uint64_t index, std::uint64_t size) const {
        do index = apply<std::uint64_t>(index);
        while (index >= size);
        return index;
    }

    std::uint64_t unwalk(std::uint64_t place, std::uint64_t size) const {
        do place = invert<std::uint64_t>(place);
        while (place >= size);
        return place;
    }

  private:
    int bits_ = 0;
    std::uint64_t mask_ = 0;
    std::array<std::uint64_t, kRounds> add_{}, multiply_{}, divide_{};
};

}  // namespace snow
