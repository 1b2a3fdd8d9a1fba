// A fast 128-bit fingerprint of bytes: eight lanes of xor, rotate, multiply, one 64-bit word each in turn. Every step is
// a bijection of the lane, so that a change within one word is never missed by its lane; lanes and length are then
// folded twice with SplitMix64's output function. Finds damage and tells contents apart; no defence against forgery.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "permutation.hpp"

namespace snow {

class Digest {
  public:
    Digest() {
        std::uint64_t seed = 0;
        for (auto& lane : lanes_) lane = split_mix(seed);
    }

    // All calls but the last take a multiple of 64 bytes.
    void update(const unsigned char* bytes, std::size_t count) {
        length_ += count;
        for (; count >= kStripe; bytes += kStripe, count -= kStripe) stripe(bytes);
        if (count > 0) {
            unsigned char last[kStripe] = {};
            std::memcpy(last, bytes, count);
            stripe(last);
        }
    }

    std::array<std::uint64_t, 2> result() const {
        std::array<std::uint64_t, 2> folded{};
        for (std::size_t half = 0; half < 2; ++half) {
            std::uint64_t state = length_ + half;
            for (const std::uint64_t lane : lanes_) {
                state ^= lane;
                state = split_mix(state);
            }
            folded[half] = state;
        }
        return folded;
    }

  private:
    static constexpr std::size_t kStripe = 64;
    static constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15ull;  // 2^64 over the golden ratio

    void stripe(const unsigned char* bytes) {
        for (std::size_t i = 0; i < lanes_.size(); ++i) {
            std::uint64_t word = 0;
            std::memcpy(&word, bytes + 8 * i, 8);
            const std::uint64_t mixed = lanes_[i] ^ word;
            lanes_[i] = (mixed << 29 | mixed >> 35) * kOdd;
        }
    }

    std::array<std::uint64_t, 8> lanes_{};
    std::uint64_t length_ = 0;
};

}  // namespace snow
