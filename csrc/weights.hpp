// Weights as exact integers: a blend is a statement about ratios, and ratios of doubles are exact in 128 bits.
//
// A double is mantissa * 2^exponent with a 53-bit mantissa. Scaling all weights by the same power of two makes the
// smallest one use bits 0..52; with a spread of at most 2^40 the largest stays below 2^94, and the sum of up to 2^20
// weights below 2^114, so that every product the algorithms form fits in 128 bits. No rounding happens anywhere.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace snow {

__extension__ typedef unsigned __int128 Wide;

constexpr std::size_t kMaxDatasets = std::size_t{1} << 20;
constexpr int kMaxSpreadBits = 40;

struct ExactWeights {
    std::vector<Wide> weight;
    Wide total = 0;
};

inline ExactWeights exact_weights(const double* weights, std::size_t count) {
    if (count == 0 || count > kMaxDatasets) throw std::invalid_argument("a blend has between 1 and 2^20 datasets");
    double smallest = weights[0], largest = weights[0];
    for (std::size_t i = 0; i < count; ++i) {
        if (!(weights[i] > 0) || std::isinf(weights[i])) throw std::invalid_argument("weights must be positive and finite");
        smallest = std::fmin(smallest, weights[i]);
        largest = std::fmax(largest, weights[i]);
    }
    if (largest > std::ldexp(smallest, kMaxSpreadBits)) throw std::invalid_argument("weights may spread by 2^40 at most");
    int lowest_exponent = 0;
    std::frexp(smallest, &lowest_exponent);
    ExactWeights exact;
    exact.weight.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
        int exponent = 0;
        const double mantissa = std::frexp(weights[i], &exponent);
        exact.weight[i] = static_cast<Wide>(static_cast<std::uint64_t>(std::ldexp(mantissa, 53))) << (exponent - lowest_exponent);
        exact.total += exact.weight[i];
    }
    return exact;
}

}  // namespace snow
