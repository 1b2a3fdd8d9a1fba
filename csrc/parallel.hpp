// Work on some threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace snow {

// work(i) for each i below count, on some threads; the first failure by number wins, whatever the threads' luck:
// std::invalid_argument "number:reason".
template <typename Work>
void in_parallel(std::size_t count, std::size_t threads, Work work) {
    std::atomic<std::size_t> next{0};
    std::mutex guard;
    std::size_t failed = count;
    std::string reason;
    const auto loop = [&] {
        for (std::size_t i = next++; i < count; i = next++) {
            try {
                work(i);
            } catch (const std::exception& error) {
                const std::lock_guard<std::mutex> hold(guard);
                if (i < failed) {
                    failed = i;
                    reason = error.what();
                }
            }
        }
    };
    std::vector<std::thread> others;
    for (std::size_t k = 1; k < std::min(threads, count); ++k) others.emplace_back(loop);
    loop();
    for (auto& thread : others) thread.join();
    if (failed < count) throw std::invalid_argument(std::to_string(failed) + ":" + reason);
}

}  // namespace snow
