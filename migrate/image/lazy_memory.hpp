// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"
#include "migrate/image/image_chain.hpp"
#include "migrate/postcopy/arriving_memory.hpp"
#include "vmm/machine.hpp"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace wherry::migrate {

/// Whether what nobody waits for comes out of the image as well.
enum class Prefetch : std::uint8_t { on, off };

struct LazyMemoryOptions {
    Prefetch prefetch = Prefetch::on;
    /// Chunks to fetch ahead before all others, in this order.
    std::vector<std::uint32_t> first;
    /// Does not come out of the image: reads as zero until somebody writes it.
    std::optional<formats::PageRange> left_out{};
};

/// Told on a thread of the memory's own; must be quick, and must not destroy it.
struct LazyMemoryEvents {
    /// Once: all pages are there, and nothing watches them any more. The image is needed no longer.
    std::function<void()> on_whole;
    /// A chunk cannot be had. Its pages stay missing, and nothing more is fetched ahead, until
    /// retry(): the guest is to be stopped.
    std::function<void(const formats::Error&)> on_failure;
};

struct LazyMemoryStatus {
    /// The page map has been read: before that all of RAM counts as in the image, and missing.
    bool is_counted = false;
    formats::PageCount in_image; ///< pages that came, or have to come, out of it
    formats::PageCount missing;
    bool is_whole = false;
    Prefetch prefetch = Prefetch::on; ///< as it is now
    std::size_t waiting = 0;          ///< accesses that wait for a page
    FaultReport waits;
    std::optional<formats::Error> failure; ///< that retry() has not taken back
    bool is_retrying = false;              ///< what could not be had is being read again
};

/// The memory of a guest that runs while its pages are still in an image. Whoever touches one waits
/// until its chunk has been read, checked and decoded: nobody sees a page of a chunk that is wrong.
/// What somebody waits for comes first. Where the image has its page map in parts, that is read as
/// it is needed, too, so that the guest can begin before all of it is known: until then all memory
/// is missing, also what turns out to be in no chunk, and zero. Members may be called on any
/// thread.
class LazyMemory {
public:
    /// Into a machine whose memory nobody has touched. Does not look at the image's chunks, nor at
    /// the parts of its page map. The machine outlives it.
    static formats::Result<std::unique_ptr<LazyMemory>>
    arm(vmm::Machine& machine,
        ImageChain image,
        LazyMemoryOptions options,
        LazyMemoryEvents events);
    LazyMemory(const LazyMemory&) = delete;
    LazyMemory& operator=(const LazyMemory&) = delete;
    /// With pages missing: only once the guest stands still and will not run here.
    ~LazyMemory();

    /// All that there is as soon as possible, whatever `prefetch` was: somebody waits for the
    /// whole.
    void hurry();
    /// What could not be had is tried again, before all else.
    void retry();
    [[nodiscard]] LazyMemoryStatus status() const;
    /// Chunks by their first touch, those that were fetched first before; whether any are new.
    struct Touched {
        std::vector<std::uint32_t> chunks;
        bool has_news = false;
    };
    [[nodiscard]] Touched touched() const;

private:
    enum class ChunkState : std::uint8_t {
        untouched,
        taken, ///< somebody is about to place its pages
        done,
        failed,
    };
    /// What a worker does where nobody waits for a page.
    enum class Duty : std::uint8_t {
        waits, ///< so that the next fault finds it idle
        fills,
        fills_in_a_hurry, ///< only then
    };

    LazyMemory(
        const vmm::GuestMemory& ram,
        ImageChain image,
        PageMapParts& map,
        LazyMemoryOptions options,
        LazyMemoryEvents events);
    void start();
    void leave_guest_alone();
    void learn();
    formats::Status read_map();
    [[nodiscard]] dirtylog::DirtySet pages_in_image() const;
    void work(Duty duty);
    /// nullopt: nothing is left to do.
    std::optional<std::uint32_t> next_chunk(Duty duty);
    std::uint64_t look_up_faults();
    formats::Status look_up(formats::PageRange pages);
    void give_up(const formats::Error& error);
    // With the lock:
    std::optional<std::uint32_t> next_wanted();
    std::optional<std::uint32_t> next_to_fill(Duty duty);
    void note_wanted();
    formats::Status fetch(std::uint32_t chunk);
    void settle(std::uint32_t chunk, const formats::Status& fetched);
    void conclude();

    const vmm::GuestMemory& ram_;
    ImageChain image_;
    PageMapParts& map_; ///< the image's
    const std::optional<formats::PageRange> left_out_;
    LazyMemoryEvents events_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    formats::PageCount in_image_;
    bool is_counted_;                ///< as LazyMemoryStatus has it
    std::uint64_t faults_told_ = 0;  ///< how often somebody said that there are some
    std::vector<ChunkState> chunks_; ///< by section number; done where it is no chunk
    std::deque<std::uint32_t> wanted_;
    std::deque<std::uint32_t> first_;    ///< to be filled before
    std::uint32_t cursor_ = 0;           ///< where filling goes on
    std::vector<std::uint32_t> touched_; ///< in order; those of the options before
    std::vector<bool> is_touched_;       ///< by section number
    bool has_new_touches_ = false;
    Prefetch prefetch_;
    bool is_hurried_ = false;
    bool ends_ = false;
    bool concludes_ = false; ///< somebody has seen that nothing is missing
    bool is_whole_ = false;
    std::optional<formats::Error> failure_;
    std::vector<std::uint32_t> retried_; ///< chunks that failed and were asked for again

    std::unique_ptr<ArrivingMemory> memory_; ///< calls us
    std::vector<std::thread> workers_;
};

} // namespace wherry::migrate
