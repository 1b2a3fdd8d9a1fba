// A priority queue of datasets by (time, dataset) for times that move forward: a ring of one-slot buckets for the near
// future, a heap for what lies beyond it, and a small heap for the slot being served.
//
// The order is exactly that of one binary heap. It is faster because in a blend about one dataset falls due per slot,
// so that the small heap holds about one entry and a push into the ring is a linked-list insertion.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace snow {

class TimeQueue {
  public:
    explicit TimeQueue(std::size_t datasets) : next_(datasets, kNone) {
        std::size_t slots = 4096;  // at least: 16 KiB of bucket heads stay in the first-level cache
        while (slots < 4 * datasets) slots *= 2;  // holds the next sample of every dataset of a quarter of the mean weight
        heads_.assign(slots, kNone);
        occupied_.assign(slots / 64, 0);
        mask_ = static_cast<std::int64_t>(slots) - 1;
    }

    bool empty() const { return near_.empty() && in_ring_ == 0 && far_.empty(); }

    void push(std::int64_t time, std::int32_t dataset) {
        if (time < base_) {
            push_heap(near_, time, dataset);
        } else if (time - base_ <= mask_) {
            put_in_ring(time, dataset);
        } else {
            push_heap(far_, time, dataset);
        }
    }

    // Whether the earliest time is at most `limit`; looks no further than that slot.
    bool due(std::int64_t limit) {
        while (near_.empty() && base_ <= limit && !empty()) serve_next_slot(limit);
        return !near_.empty() && near_.front().first <= limit;
    }

    // The earliest dataset, lowest number first among equals. Only after due() said so.
    std::int32_t pop() {
        const std::int32_t dataset = near_.front().second;
        std::pop_heap(near_.begin(), near_.end(), std::greater<>());
        near_.pop_back();
        return dataset;
    }

  private:
    using Entry = std::pair<std::int64_t, std::int32_t>;
    static constexpr std::int32_t kNone = -1;

    static void push_heap(std::vector<Entry>& heap, std::int64_t time, std::int32_t dataset) {
        heap.emplace_back(time, dataset);
        if (heap.size() > 1) std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }

    void put_in_ring(std::int64_t time, std::int32_t dataset) {
        const auto slot = static_cast<std::size_t>(time & mask_);
        next_[static_cast<std::size_t>(dataset)] = heads_[slot];
        heads_[slot] = dataset;
        occupied_[slot / 64] |= std::uint64_t{1} << (slot % 64);
        ++in_ring_;
    }

    // Move the next occupied slot (none after `limit`) into the small heap and start the ring behind it.
    void serve_next_slot(std::int64_t limit) {
        if (in_ring_ == 0 && !far_.empty()) base_ = std::max(base_, std::min(far_.front().first, limit + 1));
        while (!far_.empty() && far_.front().first - base_ <= mask_) {
            const Entry entry = far_.front();
            std::pop_heap(far_.begin(), far_.end(), std::greater<>());
            far_.pop_back();
            put_in_ring(entry.first, entry.second);
        }
        base_ = std::min(next_occupied(limit), limit + 1);
        if (base_ > limit) return;
        const auto slot = static_cast<std::size_t>(base_ & mask_);
        for (std::int32_t dataset = heads_[slot]; dataset != kNone; dataset = next_[static_cast<std::size_t>(dataset)]) {
            push_heap(near_, base_, dataset);
            --in_ring_;
        }
        heads_[slot] = kNone;
        occupied_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
        ++base_;
    }

    std::int64_t next_occupied(std::int64_t limit) const {
        std::int64_t time = base_;
        while (time <= limit) {
            const auto slot = static_cast<std::size_t>(time & mask_);
            const std::uint64_t rest = occupied_[slot / 64] >> (slot % 64);
            if (rest != 0) return time + __builtin_ctzll(rest);
            time += static_cast<std::int64_t>(64 - slot % 64);
        }
        return time;
    }

    std::vector<std::int32_t> heads_, next_;  // bucket -> first dataset, dataset -> next in its bucket
    std::vector<std::uint64_t> occupied_;
    std::vector<Entry> near_, far_;
    std::int64_t base_ = 0, mask_ = 0;  // the ring holds times in [base_, base_ + mask_], near_ those before base_
    std::size_t in_ring_ = 0;
};

}  // namespace snow
