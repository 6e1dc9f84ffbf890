// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/section_pipeline.hpp"

#include <algorithm>
#include <utility>

namespace wherry::migrate {

using formats::Bytes;
using formats::fail;
using formats::Status;

namespace {

/// Under way: so many that whoever gives them in bursts, and whoever appends them, seldom waits for
/// the other; 16 MiB for two workers and the longest of chunks, a quarter of that as a rule.
constexpr std::size_t sections_per_worker = 8;

} // namespace

SectionPipeline::SectionPipeline(
    const ImageOptions& options, const formats::ImageId& id, ImageSink& file)
    : id_{id},
      file_{file},
      capacity_{sections_per_worker * options.workers},
      encoder_{options, id},
      written_{file.written()} {
    for (unsigned i = 0; i < options.workers; ++i) {
        threads_.emplace_back(
            [this, options](const std::stop_token& stop) { encode(stop, options); });
    }
    if (options.workers > 0) {
        threads_.emplace_back([this](const std::stop_token& stop) { append(stop); });
    }
}

SectionPipeline::~SectionPipeline() {
    file_.interrupt();
}

Status SectionPipeline::put(SectionContents contents) {
    std::unique_lock lock{mutex_};
    const bool has_threads = capacity_ > 0;
    appended_.wait(lock, [&] { return failure_ || !has_threads || jobs_.size() < capacity_; });
    if (failure_) {
        return fail(*failure_);
    }
    if (!has_threads) {
        const auto section = encoder_.encode(std::move(contents));
        auto appended = append(section, expected_);
        note_appended(section, appended);
        return appended;
    }
    const Bytes size = Bytes{contents.table.size()} + Bytes{contents.payload.size()};
    jobs_.push_back({.contents = std::move(contents), .size = size, .encoded = {}});
    to_encode_.notify_one();
    return {};
}

Status SectionPipeline::finish() {
    std::unique_lock lock{mutex_};
    appended_.wait(lock, [this] { return failure_ || jobs_.empty(); });
    return failure_ ? fail(*failure_) : Status{};
}

void SectionPipeline::expect(Bytes more) {
    const std::scoped_lock lock{mutex_};
    expected_ = written_ + more;
    for (const Job& job : jobs_) {
        expected_ += job.size;
    }
}

Bytes SectionPipeline::written() const {
    const std::scoped_lock lock{mutex_};
    return written_;
}

SectionPipeline::Job* SectionPipeline::next_to_encode() {
    const auto job = std::ranges::find(jobs_, false, &Job::is_begun);
    return job == jobs_.end() ? nullptr : &*job;
}

void SectionPipeline::encode(const std::stop_token& stop, const ImageOptions& options) {
    SectionEncoder encoder{options, id_};
    std::unique_lock lock{mutex_};
    while (to_encode_.wait(lock, stop, [this] { return next_to_encode() != nullptr; })) {
        Job& job = *next_to_encode();
        job.is_begun = true;
        lock.unlock();
        auto encoded = encoder.encode(std::move(job.contents));
        lock.lock();
        job.encoded = std::move(encoded);
        to_append_.notify_one();
    }
}

void SectionPipeline::append(const std::stop_token& stop) {
    std::unique_lock lock{mutex_};
    const auto is_ready = [this] {
        return !jobs_.empty() && jobs_.front().encoded.has_value();
    };
    while (!failure_ && to_append_.wait(lock, stop, is_ready)) {
        const auto& section = *jobs_.front().encoded;
        const Bytes expected = expected_;
        lock.unlock();
        const auto appended = append(section, expected);
        lock.lock();
        note_appended(section, appended);
        jobs_.pop_front();
        appended_.notify_one();
    }
}

Status SectionPipeline::append(const EncodedSection& section, Bytes expected) {
    file_.expect(expected);
    return formats::then(
        file_.append(section.front), [&] { return file_.append(section.payload); });
}

/// With the lock.
void SectionPipeline::note_appended(const EncodedSection& section, const Status& appended) {
    if (!appended) {
        failure_ = appended.error();
        return;
    }
    entries_.push_back({.offset = written_, .head = section.head});
    written_ = file_.written();
}

} // namespace wherry::migrate
