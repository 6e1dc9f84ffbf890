// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/lazy_memory.hpp"

#include <algorithm>
#include <chrono>
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

/// So long after its start the guest has the processors for itself, but for what it waits for.
constexpr std::chrono::milliseconds head_start{20};

/// Signals of the process are for its other threads.
void block_signals() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

} // namespace

Result<std::unique_ptr<LazyMemory>> LazyMemory::arm(
    vmm::Machine& machine, ImageChain image, LazyMemoryOptions options, LazyMemoryEvents events) {
    const auto map = image.page_map_parts();
    if (!map) {
        return fail(map.error());
    }
    std::unique_ptr<LazyMemory> memory{new LazyMemory{
        machine.memory(), std::move(image), **map, std::move(options), std::move(events)}};
    const auto missing = memory->pages_in_image();
    memory->in_image_ = missing.count();
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
    const vmm::GuestMemory& ram,
    ImageChain image,
    PageMapParts& map,
    LazyMemoryOptions options,
    LazyMemoryEvents events)
    : ram_{ram},
      image_{std::move(image)},
      map_{map},
      left_out_{options.left_out},
      events_{std::move(events)},
      is_counted_{map.is_whole()},
      chunks_(image_.section_count(), ChunkState::done),
      is_touched_(chunks_.size()),
      prefetch_{options.prefetch} {
    if (map_.is_whole()) {
        map_.for_each([this](const formats::PageMapEntry& entry) {
            chunks_.at(entry.chunk) = ChunkState::untouched;
        });
    } else { // of one image: see ImageChain::page_map_parts()
        const auto sections = image_.image().sections();
        for (std::size_t number = 0; number < sections.size(); ++number) {
            if (sections[number].head.type == formats::SectionType::pages) {
                chunks_[number] = ChunkState::untouched;
            }
        }
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

/// Of a map that is not whole yet: all of RAM.
dirtylog::DirtySet LazyMemory::pages_in_image() const {
    dirtylog::DirtySet pages{ram_};
    if (map_.is_whole()) {
        map_.for_each([&pages](const formats::PageMapEntry& entry) { pages.mark(entry.pages); });
    } else {
        pages.mark_all();
    }
    if (left_out_) {
        pages.unmark(*left_out_);
    }
    return pages;
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
    if (!is_counted_) {
        workers_.emplace_back([this] { learn(); });
    }
}

/// Sooner where it ends or somebody waits for the whole.
void LazyMemory::leave_guest_alone() {
    std::unique_lock held{mutex_};
    changed_.wait_for(held, head_start, [this] { return ends_ || is_hurried_; });
}

/// Reads what of the page map nobody has asked for, until all of it is known.
void LazyMemory::learn() {
    block_signals();
    ::pthread_setname_np(::pthread_self(), "image-map");
    leave_guest_alone();
    while (true) {
        const auto learnt = read_map();
        if (!learnt) {
            give_up(learnt.error());
        }
        std::unique_lock held{mutex_};
        changed_.wait(held, [this] { return ends_ || is_counted_ || !failure_; });
        if (ends_ || is_counted_) {
            return;
        }
    }
}

Status LazyMemory::read_map() {
    for (std::size_t part = 0; part < map_.count(); ++part) {
        {
            const std::scoped_lock held{mutex_};
            if (ends_) {
                return {};
            }
        }
        if (auto loaded = map_.load_part(part); !loaded) {
            return loaded;
        }
    }
    if (auto good = map_.check_counts(); !good) {
        return fail(std::move(good).error().during(image_.name()));
    }
    const auto pages = pages_in_image();
    if (auto narrowed = memory_->narrow(pages); !narrowed) {
        return narrowed;
    }
    {
        const std::scoped_lock held{mutex_};
        in_image_ = pages.count();
        is_counted_ = true;
    }
    changed_.notify_all(); // nothing may be missing any more
    return {};
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
    memory_->queue().ask_again(); // also for what could not be looked up
    changed_.notify_all();
}

LazyMemory::Touched LazyMemory::touched() const {
    const std::scoped_lock held{mutex_};
    return {.chunks = touched_, .has_news = has_new_touches_};
}

LazyMemoryStatus LazyMemory::status() const {
    LazyMemoryStatus status;
    status.missing = memory_->missing_count();
    status.waiting = memory_->queue().waiting();
    status.waits = memory_->report();
    const std::scoped_lock held{mutex_};
    status.is_counted = is_counted_;
    status.in_image = in_image_;
    status.is_whole = is_whole_;
    status.prefetch = prefetch_;
    status.failure = failure_;
    status.is_retrying = !retried_.empty();
    return status;
}

/// On the thread that was told of a fault.
void LazyMemory::note_wanted() {
    {
        const std::scoped_lock held{mutex_};
        ++faults_told_;
    }
    changed_.notify_all();
}

void LazyMemory::work(Duty duty) {
    block_signals();
    ::pthread_setname_np(::pthread_self(), duty == Duty::waits ? "image-faults" : "image-fill");
    if (duty != Duty::waits) {
        leave_guest_alone();
    }
    while (const auto chunk = next_chunk(duty)) {
        settle(*chunk, fetch(*chunk));
    }
    if (memory_->missing_count() == PageCount{0}) {
        conclude();
    }
}

std::optional<std::uint32_t> LazyMemory::next_chunk(Duty duty) {
    while (true) {
        const auto told = look_up_faults();
        std::unique_lock held{mutex_};
        if (ends_ || (!failure_ && memory_->missing_count() == PageCount{0})) {
            return std::nullopt;
        }
        auto chunk = next_wanted();
        if (!chunk) {
            chunk = next_to_fill(duty);
        }
        if (chunk) {
            chunks_[*chunk] = ChunkState::taken;
            return chunk;
        }
        if (told == faults_told_) { // else there are more by now
            changed_.wait(held);
        }
    }
}

/// Which chunks the faults that have come are for: without the lock, for that may read a part of
/// the page map. How many had been told of before.
std::uint64_t LazyMemory::look_up_faults() {
    std::uint64_t told = 0;
    {
        const std::scoped_lock held{mutex_};
        told = faults_told_;
    }
    for (const PageRange pages : memory_->queue().take(faults_at_once)) {
        if (const auto looked_up = look_up(pages); !looked_up) {
            give_up(looked_up.error());
        }
    }
    return told;
}

Status LazyMemory::look_up(PageRange pages) {
    if (auto loaded = map_.load(pages); !loaded) {
        return loaded;
    }
    std::vector<PageRange> zeros;
    formats::Gfn at = pages.first();
    const auto none_until = [&](formats::Gfn end) {
        if (at < end) {
            zeros.push_back(pages.part(at - pages.first(), end - pages.first()));
        }
    };
    {
        const std::scoped_lock held{mutex_};
        map_.for_each_entry(pages, [&](const formats::PageMapEntry& entry) {
            none_until(entry.pages.first());
            at = std::min(entry.pages.end(), pages.end());
            wanted_.push_back(entry.chunk);
            if (!is_touched_[entry.chunk]) {
                is_touched_[entry.chunk] = true;
                touched_.push_back(entry.chunk);
                has_new_touches_ = true;
            }
        });
    }
    none_until(pages.end());
    Status placed;
    for (const PageRange run : zeros) {
        placed = placed ? memory_->placement().place_zero(run) : placed;
    }
    return placed;
}

std::optional<std::uint32_t> LazyMemory::next_wanted() {
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
    return image_.read_chunk_by_parts(
        chunk, [&placement](PageRange pages, std::span<const std::byte> bytes) {
            return bytes.empty() ? placement.place_zero(pages) : placement.place(pages, bytes);
        });
}

void LazyMemory::settle(std::uint32_t chunk, const Status& fetched) {
    {
        const std::scoped_lock held{mutex_};
        chunks_[chunk] = fetched ? ChunkState::done : ChunkState::failed;
        std::erase(retried_, chunk);
    }
    if (!fetched) {
        give_up(fetched.error());
    }
}

/// For now: until retry().
void LazyMemory::give_up(const formats::Error& error) {
    {
        const std::scoped_lock held{mutex_};
        if (failure_) {
            return;
        }
        failure_ = error;
    }
    events_.on_failure(error);
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
