// Near-duplicate clusters of many documents: bands are read one after the other, buckets are the documents with equal
// keys, and which documents of a bucket are near-duplicates is asked of the caller in batches. About 20 bytes a document.
//
// Documents are numbered in order of preference, and a cluster's root is its smallest number. In a bucket the first
// document leads; each other one that is not yet of its cluster is compared with it and joins where it is near enough; of
// those left over the first leads next, and so on. The outcome depends on the numbers, keys and answers alone.
// Twin: megatron_snow/corpus/reference.py.
#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "bindings.hpp"

namespace snow {
namespace {

using Number = std::uint32_t;

class Clusters {
  public:
    explicit Clusters(std::uint64_t documents) {
        if (documents >= std::numeric_limits<Number>::max()) throw std::invalid_argument("fewer than 2^32 - 1 documents can be clustered at once");
        parent_.resize(documents);
        for (std::size_t i = 0; i < documents; ++i) parent_[i] = static_cast<Number>(i);
    }

    // Take up a band; what is left of the one before is forgotten.
    void band(const Array<std::uint64_t>& keys, std::size_t rounds) {
        if (keys.ndim() != 1 || static_cast<std::size_t>(keys.shape(0)) != parent_.size()) throw std::invalid_argument("a band has one key for each document");
        const std::uint64_t* key = keys.data();
        const py::gil_scoped_release release;
        std::vector<std::pair<std::uint64_t, Number>> sorted(parent_.size());
        for (std::size_t i = 0; i < sorted.size(); ++i) sorted[i] = {key[i], static_cast<Number>(i)};
        std::sort(sorted.begin(), sorted.end());
        members_.clear();
        ends_.clear();
        for (std::size_t i = 0, end = 0; i < sorted.size(); i = end) {
            while (end < sorted.size() && sorted[end].first == sorted[i].first) ++end;
            if (end - i < 2) continue;
            for (std::size_t k = i; k < end; ++k) members_.push_back(sorted[k].second);
            ends_.push_back(members_.size());
        }
        rounds_ = rounds;
        asked_.clear();
    }

    // The comparisons of the next round, int64 [pairs, 2] (leader, member); none where the band is done.
    Array<std::int64_t> pairs() {
        {
            const py::gil_scoped_release release;
            while (rounds_ > 0 && !ends_.empty() && asked_.empty()) ask();
        }
        Array<std::int64_t> found({static_cast<py::ssize_t>(asked_.size()), py::ssize_t{2}});
        std::int64_t* out = found.mutable_data();
        for (const auto& [leader, member] : asked_) {
            *out++ = leader;
            *out++ = member;
        }
        return found;
    }

    // Which of the pairs are near-duplicates.
    void answer(const Array<bool>& near) {
        if (near.ndim() != 1 || static_cast<std::size_t>(near.shape(0)) != asked_.size()) throw std::invalid_argument("an answer for each pair is needed");
        const bool* yes = near.data();
        for (std::size_t i = 0; i < asked_.size(); ++i) {
            if (yes[i]) {
                join(asked_[i].first, asked_[i].second);
            } else {
                refused_.insert(code(asked_[i]));
            }
        }
        asked_.clear();
        drop_leaders();
    }

    // The number of the preferred document of each document's cluster: int64 [documents].
    Array<std::int64_t> roots() {
        Array<std::int64_t> found(static_cast<py::ssize_t>(parent_.size()));
        std::int64_t* out = found.mutable_data();
        for (std::size_t i = 0; i < parent_.size(); ++i) out[i] = root(static_cast<Number>(i));
        return found;
    }

  private:
    using Pair = std::pair<Number, Number>;

    static std::uint64_t code(const Pair& pair) { return static_cast<std::uint64_t>(pair.first) << 32 | pair.second; }

    Number root(Number i) {
        while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
        return i;
    }

    void join(Number a, Number b) {
        a = root(a);
        b = root(b);
        parent_[std::max(a, b)] = std::min(a, b);
    }

    void ask() {
        std::size_t begin = 0;
        for (const std::size_t end : ends_) {
            const Number leader = members_[begin];
            for (std::size_t k = begin + 1; k < end; ++k) {
                const Pair pair{leader, members_[k]};
                if (root(leader) != root(pair.second) && refused_.count(code(pair)) == 0) asked_.push_back(pair);
            }
            begin = end;
        }
        if (asked_.empty()) drop_leaders();
    }

    // Each bucket goes on with those that are not of its leader's cluster.
    void drop_leaders() {
        std::size_t begin = 0, kept = 0, buckets = 0;
        for (const std::size_t end : ends_) {
            const Number leader = root(members_[begin]);
            const std::size_t start = kept;
            for (std::size_t k = begin + 1; k < end; ++k) {
                const Number member = members_[k];
                if (root(member) != leader) members_[kept++] = member;
            }
            if (kept - start < 2) {
                kept = start;
            } else {
                ends_[buckets++] = kept;
            }
            begin = end;
        }
        members_.resize(kept);
        ends_.resize(buckets);
        --rounds_;
    }

    std::vector<Number> parent_, members_;
    std::vector<std::size_t> ends_;  // of the buckets in members_
    std::vector<Pair> asked_;
    std::unordered_set<std::uint64_t> refused_;
    std::size_t rounds_ = 0;
};

}  // namespace

void bind_clusters(py::module_& module) {
    py::class_<Clusters>(module, "Clusters", "Union-find over documents numbered in order of preference; candidates come from MinHash bands.")
        .def(py::init<std::uint64_t>(), py::arg("documents"))
        .def("band", &Clusters::band, py::arg("keys"), py::arg("rounds"), "Take up a band: uint64 [documents]. A document is compared with so many leaders at most.")
        .def("pairs", &Clusters::pairs, "int64 [pairs, 2]: the comparisons of the next round, by leader; none where the band is done.")
        .def("answer", &Clusters::answer, py::arg("near"), "bool [pairs]: which of them are near-duplicates.")
        .def("roots", &Clusters::roots, "int64 [documents]: the preferred document of each one's cluster.");
}

}  // namespace snow
