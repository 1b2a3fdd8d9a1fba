// Two queues of datasets by time, for times that move forward slot by slot: a ring of one-slot buckets for the near
// future and a heap for what lies beyond it. In a blend about one dataset falls due per slot, so that a bucket holds
// about one and a push is a linked-list insertion: cheaper than a binary heap over all, in exactly the same order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace snow {

// A min-heap of (time, dataset): earliest first, lowest number first among equals.
class TimeHeap {
  public:
    bool empty() const { return entries_.empty(); }
    std::int64_t time() const { return entries_.front().first; }

    void push(std::int64_t time, std::int32_t dataset) {
        entries_.emplace_back(time, dataset);
        if (entries_.size() > 1) std::push_heap(entries_.begin(), entries_.end(), std::greater<>());
    }

    std::int32_t pop() {
        const std::int32_t dataset = entries_.front().second;
        if (entries_.size() > 1) std::pop_heap(entries_.begin(), entries_.end(), std::greater<>());
        entries_.pop_back();
        return dataset;
    }

  private:
    std::vector<std::pair<std::int64_t, std::int32_t>> entries_;
};

// Buckets for the times [base, base + slots), each a linked list of datasets in no particular order.
class TimeRing {
  public:
    explicit TimeRing(std::size_t datasets) : next_(datasets, kNone) {
        std::size_t slots = 4096;  // at least: 16 KiB of bucket heads stay in the first-level cache
        while (slots < 4 * datasets) slots *= 2;  // reaches the next sample of a dataset of a quarter of the mean weight
        heads_.assign(slots, kNone);
        occupied_.assign(slots / 64, 0);
        mask_ = static_cast<std::int64_t>(slots) - 1;
    }

    bool empty() const { return size_ == 0; }
    bool reaches(std::int64_t base, std::int64_t time) const { return time - base <= mask_; }

    void push(std::int64_t time, std::int32_t dataset) {
        const auto slot = static_cast<std::size_t>(time & mask_);
        next_[static_cast<std::size_t>(dataset)] = heads_[slot];
        heads_[slot] = dataset;
        occupied_[slot / 64] |= std::uint64_t{1} << (slot % 64);
        ++size_;
    }

    // The first time from `base` on with a dataset; the ring must not be empty.
    std::int64_t next_occupied(std::int64_t base) const {
        for (std::int64_t time = base;; time += static_cast<std::int64_t>(64 - static_cast<std::size_t>(time) % 64)) {
            const auto slot = static_cast<std::size_t>(time & mask_);
            const std::uint64_t rest = occupied_[slot / 64] >> (slot % 64);
            if (rest != 0) return time + __builtin_ctzll(rest);
        }
    }

    template <typename Take>
    void drain(std::int64_t time, Take take) {
        const auto slot = static_cast<std::size_t>(time & mask_);
        if (heads_[slot] == kNone) return;
        for (std::int32_t dataset = heads_[slot], next; dataset != kNone; dataset = next) {
            next = next_[static_cast<std::size_t>(dataset)];  // before take() files it elsewhere
            --size_;
            take(dataset);
        }
        heads_[slot] = kNone;
        occupied_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
    }

  private:
    static constexpr std::int32_t kNone = -1;
    std::vector<std::int32_t> heads_, next_;  // bucket -> first dataset, dataset -> next in its bucket
    std::vector<std::uint64_t> occupied_;
    std::int64_t mask_ = 0;
    std::size_t size_ = 0;
};

// Datasets that wait for a time to come; asked once per slot, slots in turn.
class Waiting {
  public:
    explicit Waiting(std::size_t datasets) : ring_(datasets) {}

    void push(std::int64_t now, std::int64_t time, std::int32_t dataset) {  // time > now
        if (ring_.reaches(now + 1, time)) {
            ring_.push(time, dataset);
        } else {
            far_.push(time, dataset);
        }
    }

    template <typename Take>
    void release(std::int64_t now, Take take) {
        ring_.drain(now, take);
        while (!far_.empty() && far_.time() <= now) take(far_.pop());
    }

  private:
    TimeRing ring_;
    TimeHeap far_;
};

// Datasets to be served, earliest time first, lowest number first among equals.
class Ready {
  public:
    explicit Ready(std::size_t datasets) : ring_(datasets) {}

    void push(std::int64_t time, std::int32_t dataset) {
        if (time < base_) {
            near_.push(time, dataset);
        } else if (ring_.reaches(base_, time)) {
            ring_.push(time, dataset);
        } else {
            far_.push(time, dataset);
        }
    }

    bool empty() const { return near_.empty() && ring_.empty() && far_.empty(); }

    std::int32_t pop() {  // not when empty()
        if (near_.empty()) {
            if (ring_.empty()) base_ = std::max(base_, far_.time());
            while (!far_.empty() && ring_.reaches(base_, far_.time())) {
                const std::int64_t time = far_.time();
                ring_.push(time, far_.pop());
            }
            base_ = ring_.next_occupied(base_);
            ring_.drain(base_, [this](std::int32_t dataset) { near_.push(base_, dataset); });
            ++base_;
        }
        return near_.pop();
    }

  private:
    TimeRing ring_;
    TimeHeap near_, far_;       // before base_, beyond the ring
    std::int64_t base_ = 0;
};

}  // namespace snow
