// The blend index without a table: a binary tree over the datasets, each node of which deals its samples to its two
// halves by rounding. Of a node's first m samples, round(m * share) go left; whether sample m itself does is the
// difference of two such numbers, so that a look-up walks one path and needs no memory but the tree.
//
// Halves are made greedily: the node's datasets in descending weight, each to the lighter half (LPT). With m the
// smallest weight beside leaf w, an ancestor j levels above w then weighs at least 2^(j-1) w + m: the half that an item
// is added to was the lighter one before. Rounding errs by 1/2 at a node and reaches leaf w shrunk by w / (weight of
// the half), so a leaf is off by less than 1/2 (1 + 1 + 1/2 + 1/4 + ...) = 3/2 samples at any prefix, and by at most 1
// where there are three datasets or fewer. Shares are fixed-point numbers of 64 bits, which adds n / 2^62 at most.
#include <algorithm>
#include <numeric>
#include <utility>

#include "bindings.hpp"
#include "weights.hpp"

namespace snow {
namespace {

constexpr std::int64_t kMostSamples = std::int64_t{1} << 45;  // fixed point adds under 2^-17 samples up to here

constexpr std::int64_t kBlock = std::int64_t{1} << 14;  // samples dealt together: places and results stay in the second-level cache

struct Node {
    std::uint64_t share;  // of the left half, times 2^64
    std::int32_t left, right;  // a node, or -1 - dataset
};

// part / whole * 2^64 to the nearest; part < whole < 2^127
std::uint64_t fixed_point(Wide part, Wide whole) {
    std::uint64_t quotient = 0;
    for (int bit = 0; bit < 64; ++bit) {
        part <<= 1;
        quotient <<= 1;
        if (part >= whole) {
            part -= whole;
            quotient |= 1;
        }
    }
    return quotient + (part << 1 >= whole ? 1 : 0);
}

inline std::int64_t left_count(std::int64_t samples, std::uint64_t share) {
    return static_cast<std::int64_t>((static_cast<Wide>(samples) * share + (Wide{1} << 63)) >> 64);
}

class BlendSplit {
  public:
    BlendSplit(const Array<double>& weights, const Array<std::int32_t>& names) : datasets_(static_cast<std::size_t>(weights.size())) {
        if (weights.size() != names.size()) throw std::invalid_argument("weights and names differ in length");
        const ExactWeights exact = exact_weights(weights.data(), datasets_);
        std::vector<std::int32_t> items(datasets_);
        std::iota(items.begin(), items.end(), 0);
        std::stable_sort(items.begin(), items.end(), [&](std::int32_t a, std::int32_t b) { return exact.weight[static_cast<std::size_t>(a)] > exact.weight[static_cast<std::size_t>(b)]; });
        nodes_.reserve(datasets_);
        root_ = split(items, exact.weight, names.data());
    }

    py::tuple at(std::int64_t sample) const {
        check(sample < 0 ? -1 : sample + 1);
        const auto [dataset, index] = find(sample);
        return py::make_tuple(dataset, index);
    }

    py::tuple take(std::int64_t first, std::int64_t count) const {
        check(first);
        check(count);
        check(first + count);
        Array<std::int32_t> dataset_of(count);
        Array<std::int64_t> index_of(count);
        std::int32_t* datasets = dataset_of.mutable_data();
        std::int64_t* indices = index_of.mutable_data();
        {
            py::gil_scoped_release release;
            std::vector<std::uint16_t> places(kBlock), spare(kBlock);
            for (std::int64_t done = 0; done < count; done += kBlock) {
                const std::int64_t block = std::min(kBlock, count - done);
                std::iota(places.begin(), places.begin() + block, std::uint16_t{0});
                deal(root_, first + done, places.data(), block, spare.data(), datasets + done, indices + done);
            }
        }
        return py::make_tuple(dataset_of, index_of);
    }

    Array<std::int64_t> counts(std::int64_t samples) const {
        check(samples);
        Array<std::int64_t> result(static_cast<py::ssize_t>(datasets_));
        std::int64_t* counts = result.mutable_data();
        std::vector<std::int64_t> at(nodes_.size());  // parents come before their halves
        const auto give = [&](std::int32_t to, std::int64_t count) { (to < 0 ? counts[-1 - to] : at[static_cast<std::size_t>(to)]) = count; };
        give(root_, samples);
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
            const std::int64_t left = left_count(at[i], nodes_[i].share);
            give(nodes_[i].left, left);
            give(nodes_[i].right, at[i] - left);
        }
        return result;
    }

  private:
    static void check(std::int64_t samples) {
        if (samples < 0 || samples > kMostSamples) throw std::out_of_range("a blend has samples 0 to 2^45");
    }

    std::int32_t split(const std::vector<std::int32_t>& items, const std::vector<Wide>& weights, const std::int32_t* names) {
        if (items.size() == 1) return -1 - names[items[0]];
        std::vector<std::int32_t> halves[2];
        Wide sums[2] = {0, 0};
        for (const std::int32_t item : items) {
            const std::size_t half = sums[1] < sums[0] ? 1 : 0;
            halves[half].push_back(item);
            sums[half] += weights[static_cast<std::size_t>(item)];
        }
        const std::size_t node = nodes_.size();
        nodes_.push_back({fixed_point(sums[0], sums[0] + sums[1]), 0, 0});
        nodes_[node].left = split(halves[0], weights, names);
        nodes_[node].right = split(halves[1], weights, names);
        return static_cast<std::int32_t>(node);
    }

    std::pair<std::int32_t, std::int64_t> find(std::int64_t sample) const {
        std::int32_t at = root_;
        while (at >= 0) {
            const Node& node = nodes_[static_cast<std::size_t>(at)];
            const std::int64_t left = left_count(sample, node.share);
            if (left_count(sample + 1, node.share) > left) {
                sample = left;
                at = node.left;
            } else {
                sample -= left;
                at = node.right;
            }
        }
        return {-1 - at, sample};
    }

    // The node's samples from `sample` on go to the given places, in turn. Dealing a run down the tree costs one addition
    // a level: the carry out of the rounded product says left. `spare` is as large as `places`; halves swap the two.
    void deal(std::int32_t at, std::int64_t sample, std::uint16_t* places, std::int64_t count, std::uint16_t* spare, std::int32_t* datasets, std::int64_t* indices) const {
        if (count == 0) return;
        if (at < 0) {
            for (std::int64_t i = 0; i < count; ++i) {
                datasets[places[i]] = -1 - at;
                indices[places[i]] = sample + i;
            }
            return;
        }
        const Node& node = nodes_[static_cast<std::size_t>(at)];
        const std::int64_t left = left_count(sample, node.share), lefts = left_count(sample + count, node.share) - left;
        std::uint64_t fraction = static_cast<std::uint64_t>(sample) * node.share + (std::uint64_t{1} << 63);
        std::int64_t next_left = 0, next_right = lefts;
        for (std::int64_t i = 0; i < count; ++i) {
            fraction += node.share;
            const std::int64_t goes_left = fraction < node.share;
            spare[goes_left ? next_left : next_right] = places[i];
            next_left += goes_left;
            next_right += 1 - goes_left;
        }
        deal(node.left, left, spare, lefts, places, datasets, indices);
        deal(node.right, sample - left, spare + lefts, count - lefts, places + lefts, datasets, indices);
    }

    std::size_t datasets_;
    std::vector<Node> nodes_;
    std::int32_t root_ = 0;
};

}  // namespace

void bind_blend_split(py::module_& module) {
    py::class_<BlendSplit>(module, "BlendSplit", "Recursive rounded split of the weights: random access to a blend, nothing stored per sample.")
        .def(py::init<const Array<double>&, const Array<std::int32_t>&>(), py::arg("weights"), py::arg("names"))
        .def("at", &BlendSplit::at, py::arg("sample"), "(dataset, index within it) of one sample.")
        .def("take", &BlendSplit::take, py::arg("first"), py::arg("count"), "(dataset int32[count], index within it int64[count]).")
        .def("counts", &BlendSplit::counts, py::arg("samples"), "How many of the first samples each dataset gives, int64[datasets].");
}

}  // namespace snow
