// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/channel_place.hpp"
#include "migrate/file_placement.hpp"
#include "migrate/page_receiver.hpp"
#include "migrate/reception.hpp"
#include "transport/task_group.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace wherry::migrate {

/// The bulk channels of a destination. Its members are called on the session's thread; the channels
/// work where `threads` says. A round is over when all of them have ended it, and only then the
/// next one is let in.
class IncomingPages {
public:
    using OnFailure = std::function<void(const formats::Error&)>;
    struct RoundEnd {
        std::uint32_t round = 0;
        bool is_last = false;
    };

    /// `memory` outlives it; of `count` channels, numbered from 0.
    IncomingPages(
        vmm::GuestMemory& memory,
        std::uint32_t count,
        const transport::Executor& session,
        ChannelThreads threads);
    IncomingPages(const IncomingPages&) = delete;
    IncomingPages& operator=(const IncomingPages&) = delete;
    ~IncomingPages();

    /// Takes a channel in, moves it to its place; one of a number that is there is refused.
    formats::Status add(OpenedChannel opened);
    /// Once all are there: they receive until the last round has ended. `on_failure` hears, on the
    /// session's thread, of one that fails before.
    void start(OnFailure on_failure);
    /// Waits for the end of the round that is open; `timed_out` where no page comes for `patience`.
    transport::Task<RoundEnd> round_end(Duration patience);
    /// Lets the next round in.
    void open_next_round();
    /// Post-copy, once the last round of pre-copy is over, or on channels that were made again: the
    /// pages that are pushed go to `placement`, which outlives settle().
    void start_push(PagePlacement& placement, OnFailure on_failure);
    /// Tells the source what is in place, as that changes. Until cancelled or `control` fails.
    transport::Task<void> tell_placed(SessionChannel& control);

    /// Ends all channels at once, without a farewell.
    void close();
    /// Once closed: waits until nothing runs any more; then the memory may go.
    transport::Task<void> settle();

    [[nodiscard]] const PageCounters& counters() const noexcept { return counters_; }

private:
    struct Lane;
    struct Book;

    vmm::GuestMemory& memory_;
    FilePlacement file_;
    OpenPlacement placement_{&file_};
    transport::Executor session_;
    ChannelThreads threads_;
    PageCounters counters_;
    OpenRound open_round_{0};
    /// What the channels have said. Shared with calls on their way to the session's thread.
    std::shared_ptr<Book> book_;
    /// Shared with calls on their way to a channel's thread; empty until the channel has come.
    std::vector<std::shared_ptr<Lane>> lanes_;
    transport::TaskGroup receivers_;
    bool is_started_ = false;
    bool is_closed_ = false;
};

} // namespace wherry::migrate
