// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/lazy_memory.hpp"

#include <algorithm>
#include <csignal>
#include <utility>

#include <pthread.h>

namespace wherry::migrate {

using formats::fail;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

/// One waits for faults, one fills; the others help where somebody waits for the whole.
constexpr unsigned least_workers = 2;
constexpr unsigned most_workers = 4;
/// Ranges that are looked at together.
constexpr std::size_t faults_at_once = 64;

/// Calls fn(entry) for each entry with a page of `pages`.
template <typename Function>
void for_each_entry(const PageMap& map, PageRange pages, Function&& fn) {
    const auto entries = map.entries();
    auto entry =
        std::ranges::upper_bound(entries, pages.first(), {}, [](const formats::PageMapEntry& each) {
            return each.pages.end();
        });
    for (; entry != entries.end() && entry->pages.first() < pages.end(); ++entry) {
        fn(*entry);
    }
}

/// Signals of the process are for its other threads.
void block_signals() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

} // namespace

Result<std::unique_ptr<LazyMemory>> LazyMemory::arm(
    vmm::Machine& machine, ImageChain image, LazyMemoryOptions options, LazyMemoryEvents events) {
    const auto map = image.page_map();
    if (!map) {
        return fail(map.error());
    }
    dirtylog::DirtySet missing{machine.memory()};
    for (const auto& entry : (*map)->entries()) {
        missing.mark(entry.pages);
    }
    if (options.left_out) {
        missing.unmark(*options.left_out);
    }
    std::unique_ptr<LazyMemory> memory{new LazyMemory{
        std::move(image), **map, missing.count(), std::move(options), std::move(events)}};
    auto armed = ArrivingMemory::arm(
        machine,
        missing,
        vmm::MemoryBefore::untouched,
        [&self = *memory] { self.note_wanted(); },
        [] {}); // who placed the last page sees that it was
    if (!armed) {
        return fail(std::move(armed).error());
    }
    memory->memory_ = *std::move(armed);
    memory->start();
    return memory;
}

LazyMemory::LazyMemory(
    ImageChain image,
    const PageMap& map,
    PageCount missing,
    LazyMemoryOptions options,
    LazyMemoryEvents events)
    : image_{std::move(image)},
      map_{map},
      in_image_{missing},
      events_{std::move(events)},
      chunks_(image_.section_count(), ChunkState::done),
      is_touched_(chunks_.size()),
      prefetch_{options.prefetch} {
    for (const auto& entry : map_.entries()) {
        chunks_.at(entry.chunk) = ChunkState::untouched;
    }
    for (const auto chunk : options.first) {
        const bool is_chunk = chunk < chunks_.size() && chunks_[chunk] == ChunkState::untouched;
        if (is_chunk && !is_touched_[chunk]) {
            is_touched_[chunk] = true;
            touched_.push_back(chunk);
        }
    }
    first_.assign(touched_.begin(), touched_.end());
}

LazyMemory::~LazyMemory() {
    {
        const std::scoped_lock held{mutex_};
        ends_ = true;
    }
    changed_.notify_all();
    for (auto& worker : workers_) {
        worker.join();
    }
}

void LazyMemory::start() {
    const unsigned count =
        std::clamp(std::thread::hardware_concurrency(), least_workers, most_workers);
    for (unsigned number = 0; number < count; ++number) {
        const Duty duty = number == 0   ? Duty::waits
                          : number == 1 ? Duty::fills
                                        : Duty::fills_in_a_hurry;
        workers_.emplace_back([this, duty] { work(duty); });
    }
}

void LazyMemory::hurry() {
    {
        const std::scoped_lock held{mutex_};
        is_hurried_ = true;
        prefetch_ = Prefetch::on;
    }
    changed_.notify_all();
}

void LazyMemory::retry() {
    {
        const std::scoped_lock held{mutex_};
        failure_.reset();
        for (std::uint32_t chunk = 0; chunk < chunks_.size(); ++chunk) {
            if (chunks_[chunk] == ChunkState::failed) {
                chunks_[chunk] = ChunkState::untouched;
                retried_.push_back(chunk);
                wanted_.push_back(chunk);
            }
        }
    }
    changed_.notify_all();
}

LazyMemory::Touched LazyMemory::touched() const {
    const std::scoped_lock held{mutex_};
    return {.chunks = touched_, .has_news = has_new_touches_};
}

LazyMemoryStatus LazyMemory::status() const {
    LazyMemoryStatus status;
    status.in_image = in_image_;
    status.missing = memory_->missing_count();
    status.waiting = memory_->queue().waiting();
    status.waits = memory_->report();
    const std::scoped_lock held{mutex_};
    status.is_whole = is_whole_;
    status.prefetch = prefetch_;
    status.failure = failure_;
    status.is_retrying = !retried_.empty();
    return status;
}

/// On the thread that was told of a fault.
void LazyMemory::note_wanted() {
    // Whoever looks for work has the lock until it waits for it.
    const std::scoped_lock held{mutex_};
    changed_.notify_all();
}

void LazyMemory::work(Duty duty) {
    block_signals();
    ::pthread_setname_np(::pthread_self(), duty == Duty::waits ? "image-faults" : "image-fill");
    while (const auto chunk = next_chunk(duty)) {
        settle(*chunk, fetch(*chunk));
    }
    if (memory_->missing_count() == PageCount{0}) {
        conclude();
    }
}

std::optional<std::uint32_t> LazyMemory::next_chunk(Duty duty) {
    std::unique_lock held{mutex_};
    while (!ends_ && (failure_ || memory_->missing_count() > PageCount{0})) {
        auto chunk = next_wanted();
        if (!chunk) {
            chunk = next_to_fill(duty);
        }
        if (chunk) {
            chunks_[*chunk] = ChunkState::taken;
            return chunk;
        }
        changed_.wait(held);
    }
    return std::nullopt;
}

std::optional<std::uint32_t> LazyMemory::next_wanted() {
    for (const PageRange pages : memory_->queue().take(faults_at_once)) {
        for_each_entry(map_, pages, [this](const formats::PageMapEntry& entry) {
            wanted_.push_back(entry.chunk);
            if (!is_touched_[entry.chunk]) {
                is_touched_[entry.chunk] = true;
                touched_.push_back(entry.chunk);
                has_new_touches_ = true;
            }
        });
    }
    while (!wanted_.empty()) {
        const auto chunk = wanted_.front();
        wanted_.pop_front();
        if (chunks_[chunk] == ChunkState::untouched) {
            cursor_ = chunk; // who was missing this will be missing what follows it
            return chunk;
        }
    }
    return std::nullopt;
}

std::optional<std::uint32_t> LazyMemory::next_to_fill(Duty duty) {
    const bool may_fill = is_hurried_ || (duty == Duty::fills && prefetch_ == Prefetch::on);
    if (!may_fill || failure_) {
        return std::nullopt;
    }
    while (!first_.empty()) {
        const auto chunk = first_.front();
        first_.pop_front();
        if (chunks_[chunk] == ChunkState::untouched) {
            return chunk;
        }
    }
    const auto begin = chunks_.begin() + cursor_;
    auto found = std::find(begin, chunks_.end(), ChunkState::untouched);
    if (found == chunks_.end()) {
        found = std::find(chunks_.begin(), begin, ChunkState::untouched);
        if (found == begin) {
            return std::nullopt;
        }
    }
    cursor_ = static_cast<std::uint32_t>(found - chunks_.begin());
    return cursor_;
}

/// All of the chunk is right before its first page is placed.
Status LazyMemory::fetch(std::uint32_t chunk) {
    auto& placement = memory_->placement();
    return image_.read_chunk(
        chunk, [&placement](PageRange pages, std::span<const std::byte> bytes) {
            return bytes.empty() ? placement.place_zero(pages) : placement.place(pages, bytes);
        });
}

void LazyMemory::settle(std::uint32_t chunk, const Status& fetched) {
    {
        const std::scoped_lock held{mutex_};
        chunks_[chunk] = fetched ? ChunkState::done : ChunkState::failed;
        std::erase(retried_, chunk);
        if (fetched || failure_) {
            return;
        }
        failure_ = fetched.error();
    }
    events_.on_failure(fetched.error());
}

/// Nothing is missing. Without the lock: disarming waits for the thread that tells of faults, and
/// that may be waiting for the lock.
void LazyMemory::conclude() {
    {
        const std::scoped_lock held{mutex_};
        if (std::exchange(concludes_, true)) {
            return;
        }
    }
    changed_.notify_all();
    const auto disarmed = memory_->disarm();
    {
        const std::scoped_lock held{mutex_};
        is_whole_ = disarmed.has_value();
        if (!disarmed) {
            failure_ = disarmed.error();
        }
    }
    if (disarmed) {
        events_.on_whole();
    } else {
        events_.on_failure(disarmed.error());
    }
}

} // namespace wherry::migrate
