// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/section_encoder.hpp"

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

namespace wherry::migrate {

/// Encodes sections on threads of its own, several at a time, and gives them back in the order in
/// which they came. put(), has_room() and take() are for one thread; the mutex is between it and
/// the workers. What is under way when it is destroyed is dropped.
class SectionPipeline {
public:
    /// Without workers take() encodes.
    SectionPipeline(const ImageOptions& options, const formats::ImageId& id);
    SectionPipeline(const SectionPipeline&) = delete;
    SectionPipeline& operator=(const SectionPipeline&) = delete;
    ~SectionPipeline();

    /// Whether another one may be put: what is under way takes memory.
    [[nodiscard]] bool has_room() const;
    void put(SectionContents contents);
    /// The next one, once it is encoded; nothing where none is under way.
    std::optional<EncodedSection> take();

private:
    struct Job {
        SectionContents contents;
        std::optional<EncodedSection> encoded; ///< guarded by mutex_
        bool is_begun = false;                 ///< guarded by mutex_
    };
    void work(const std::stop_token& stop, const ImageOptions& options);
    [[nodiscard]] Job* next_job();

    formats::ImageId id_;
    std::size_t capacity_;
    SectionEncoder encoder_; ///< the caller's
    mutable std::mutex mutex_;
    std::condition_variable_any wake_workers_;
    std::condition_variable wake_taker_;
    std::deque<Job> jobs_;              ///< references stay valid; guarded by mutex_
    std::vector<std::jthread> workers_; ///< last: they end before the rest
};

} // namespace wherry::migrate
