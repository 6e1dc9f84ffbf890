// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/image_file.hpp"
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

/// Encodes sections on threads of its own, several at a time, and appends them to a file on
/// another, in the order in which they came. Its members are for one thread; the mutex is between
/// that and the others. What is under way when it is destroyed is dropped.
class SectionPipeline {
public:
    /// `file` outlives it, and is its own until finish() has returned. Without workers put() does
    /// all.
    SectionPipeline(const ImageOptions& options, const formats::ImageId& id, ImageSink& file);
    SectionPipeline(const SectionPipeline&) = delete;
    SectionPipeline& operator=(const SectionPipeline&) = delete;
    ~SectionPipeline();

    /// Waits where much is under way, for that takes memory. The Error of an earlier section that
    /// could not be appended: nothing more is.
    formats::Status put(SectionContents contents);
    /// Waits for what is under way.
    formats::Status finish();

    /// How much may follow what was put, as ImageSink::expect() wants to know it.
    void expect(formats::Bytes more);
    /// Of the file.
    [[nodiscard]] formats::Bytes written() const;
    /// Of the sections in the file. After finish().
    [[nodiscard]] const std::vector<formats::IndexEntry>& entries() const noexcept {
        return entries_;
    }

private:
    struct Job {
        SectionContents contents;
        formats::Bytes size;
        std::optional<EncodedSection> encoded; ///< guarded by mutex_
        bool is_begun = false;                 ///< guarded by mutex_
    };
    void encode(const std::stop_token& stop, const ImageOptions& options);
    void append(const std::stop_token& stop);
    formats::Status append(const EncodedSection& section, formats::Bytes expected);
    void note_appended(const EncodedSection& section, const formats::Status& appended);
    [[nodiscard]] Job* next_to_encode();

    formats::ImageId id_;
    ImageSink& file_;
    std::size_t capacity_;
    SectionEncoder encoder_; ///< the caller's
    mutable std::mutex mutex_;
    std::condition_variable_any to_encode_;
    std::condition_variable_any to_append_;
    std::condition_variable appended_;
    // Guarded by mutex_:
    std::deque<Job> jobs_; ///< not appended yet; references stay valid
    std::optional<formats::Error> failure_;
    formats::Bytes expected_; ///< of the file, at most
    formats::Bytes written_;
    std::vector<formats::IndexEntry> entries_;

    std::vector<std::jthread> threads_; ///< last: they end before the rest
};

} // namespace wherry::migrate
