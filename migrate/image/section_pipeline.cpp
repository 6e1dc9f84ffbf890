// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/section_pipeline.hpp"

#include <algorithm>
#include <utility>

namespace wherry::migrate {

SectionPipeline::SectionPipeline(const ImageOptions& options, const formats::ImageId& id)
    : id_{id},
      capacity_{options.workers == 0 ? 1 : std::size_t{2} * options.workers},
      encoder_{options, id} {
    for (unsigned i = 0; i < options.workers; ++i) {
        workers_.emplace_back(
            [this, options](const std::stop_token& stop) { work(stop, options); });
    }
}

SectionPipeline::~SectionPipeline() = default;

bool SectionPipeline::has_room() const {
    const std::scoped_lock lock{mutex_};
    return jobs_.size() < capacity_;
}

void SectionPipeline::put(SectionContents contents) {
    {
        const std::scoped_lock lock{mutex_};
        jobs_.push_back({.contents = std::move(contents), .encoded = {}});
    }
    wake_workers_.notify_one();
}

std::optional<EncodedSection> SectionPipeline::take() {
    std::unique_lock lock{mutex_};
    if (jobs_.empty()) {
        return std::nullopt;
    }
    Job& job = jobs_.front();
    if (workers_.empty()) {
        job.encoded = encoder_.encode(job.contents);
    }
    wake_taker_.wait(lock, [&job] { return job.encoded.has_value(); });
    auto encoded = std::move(job.encoded);
    jobs_.pop_front();
    return encoded;
}

SectionPipeline::Job* SectionPipeline::next_job() {
    const auto job = std::ranges::find(jobs_, false, &Job::is_begun);
    return job == jobs_.end() ? nullptr : &*job;
}

void SectionPipeline::work(const std::stop_token& stop, const ImageOptions& options) {
    SectionEncoder encoder{options, id_};
    std::unique_lock lock{mutex_};
    while (wake_workers_.wait(lock, stop, [this] { return next_job() != nullptr; })) {
        Job& job = *next_job();
        job.is_begun = true;
        lock.unlock();
        auto encoded = encoder.encode(job.contents);
        lock.lock();
        job.encoded = std::move(encoded);
        wake_taker_.notify_one();
    }
}

} // namespace wherry::migrate
