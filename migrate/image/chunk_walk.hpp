// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/image/image_section.hpp"
#include "migrate/image/page_map.hpp"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace wherry::migrate {

/// Takes a run of pages and its bytes.
using TakePages =
    std::function<formats::Status(formats::PageRange pages, std::span<const std::byte> bytes)>;

/// Whether the pages lie inside one region.
bool is_ram(std::span<const formats::PageRange> regions, formats::PageRange pages) noexcept;
/// "0x10 to 0x1f", for messages.
std::string numbers_of(formats::PageRange pages);
/// What a chunk's pages must be.
struct ChunkRules {
    std::span<const formats::PageRange> regions;
    const dirtylog::DirtySet* absent = nullptr; ///< no chunk has these; null: none
    bool may_supersede = false;                 ///< a page may be in several chunks
};
/// A run of chunk `number`, which is looked at in the order of the file. `corrupted` where it is
/// against the rules.
formats::Status note_run(
    PageMapBuilder& found, const ChunkRules& rules, formats::PageRange pages, std::uint32_t number);

/// The parts of a run whose contents are in `chunks` by `map`, a PageMap or PageMapParts, each with
/// its bytes; of a run of zeros there are none.
template <typename Map>
formats::Status take_counting(
    formats::PageRange pages,
    std::span<const std::byte> bytes,
    ChunkRange chunks,
    const Map& map,
    const TakePages& take) {
    formats::Status done;
    map.for_each_in(chunks, pages, [&](formats::PageRange part) {
        if (!done) {
            return;
        }
        const auto at = formats::bytes_of(part.first() - pages.first()).value();
        const auto length = formats::bytes_of(part.count()).value();
        done = take(part, bytes.empty() ? bytes : bytes.subspan(at, length));
    });
    return done;
}

/// Reads every chunk of an image, on several threads at once. What of a chunk depends on those in
/// front of it is looked at in the order of the file. run() once.
class ChunkWalk {
public:
    /// `source` and `image` outlive it; `absent` are pages that no chunk may have.
    ChunkWalk(
        ImageSource& source,
        const ImageOutline& image,
        std::vector<formats::PageRange> regions,
        dirtylog::DirtySet absent);

    /// Calls with each run that is not zero, of which what counts by `counting`, everything where
    /// that is null; on any of the threads, of which the caller's is one. The page map as the
    /// chunks make it, or the Error of the first chunk that has one.
    formats::Result<PageMap> run(const PageMap* counting, const TakePages& take, unsigned threads);

private:
    void work(const PageMap* counting, const TakePages& take);
    std::optional<std::size_t> next_chunk();
    formats::Status take_chunk(std::size_t turn, const PageMap* counting, const TakePages& take);
    /// Waits until all chunks in front are looked at. `false`: one of them is wrong.
    bool wait_for_turn(std::unique_lock<std::mutex>& lock, std::size_t turn);
    formats::Status look_at(const std::vector<formats::PageRun>& runs, std::uint32_t number);
    void give_up(std::size_t turn, formats::Error error);

    ImageSource& source_;
    const ImageOutline& image_;
    std::vector<formats::PageRange> regions_;
    dirtylog::DirtySet absent_;
    bool may_supersede_;
    std::vector<std::uint32_t> chunks_; ///< sections, in the order of the file

    std::mutex mutex_; ///< guards what follows
    std::condition_variable turn_came_;
    std::size_t begun_ = 0;     ///< chunks that a thread has taken
    std::size_t looked_at_ = 0; ///< chunks that are in found_
    PageMapBuilder found_;
    std::optional<std::size_t> failed_; ///< the first chunk that is wrong
    std::optional<formats::Error> error_;
};

} // namespace wherry::migrate
