// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace wherry::transport {

/// A lazily started coroutine: nothing runs until it is awaited or given to spawn()/TaskGroup.
/// Arguments taken by reference must outlive the await.
///
/// Cancellation: spawn() takes a slot; a signal of type `terminal` (or `all`) emitted on the
/// task's own thread flows down to whatever the task waits for and comes back as
/// ErrorCode::cancelled. It is sticky: once cancelled, every further wait of that task fails in
/// the same way, except inside shielded().
template <typename T>
using Task = boost::asio::awaitable<formats::Result<T>>;

using Duration = std::chrono::steady_clock::duration;
using Executor = boost::asio::any_io_executor;

/// Completion token of every call into Asio: `auto [error, n] = co_await f(..., as_result);`
inline constexpr auto as_result = boost::asio::as_tuple(boost::asio::use_awaitable);

/// Error{cancelled} when the task it is awaited in has been cancelled. Long loops that may not
/// suspend for long ask once per turn.
inline Task<void> check_cancelled() {
    auto state = co_await boost::asio::this_coro::cancellation_state;
    if (state.cancelled() != boost::asio::cancellation_type::none) {
        co_return formats::fail(formats::ErrorCode::cancelled, "the operation was cancelled");
    }
    co_return formats::Status{};
}

namespace detail {

template <typename T>
boost::asio::awaitable<void> run_into(std::optional<formats::Result<T>>& outcome, Task<T> work) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    auto result = co_await std::move(work);
    outcome.emplace(std::move(result));
}

template <typename T>
boost::asio::awaitable<void> supervise(std::optional<formats::Result<T>>& outcome, Task<T> work) {
    try {
        co_await run_into(outcome, std::move(work));
    } catch (const std::exception& thrown) {
        outcome.emplace(std::unexpect, formats::ErrorCode::internal, thrown.what());
    }
}

} // namespace detail

/// Runs `work`; when it has not finished after `limit`, cancels it, waits for it to unwind and
/// reports Error{timed_out}. A result that work reaches while it is being cancelled is kept.
template <typename T>
Task<T> within(Duration limit, Task<T> work) {
    namespace asio = boost::asio;
    auto alive = co_await check_cancelled();
    if (!alive) {
        co_return formats::fail(std::move(alive).error());
    }
    auto executor = co_await asio::this_coro::executor;
    std::optional<formats::Result<T>> outcome;
    asio::steady_timer timer{executor, limit};
    auto group = asio::experimental::make_parallel_group(
        asio::co_spawn(executor, detail::run_into(outcome, std::move(work)), asio::deferred),
        timer.async_wait(asio::deferred));
    auto done = co_await group.async_wait(asio::experimental::wait_for_one{}, asio::use_awaitable);
    if (std::get<1>(done) != nullptr) {
        std::rethrow_exception(std::get<1>(done));
    }
    const bool expired = !std::get<2>(done);
    if (expired && !*outcome && outcome->error().code() == formats::ErrorCode::cancelled) {
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
        co_return formats::fail(
            formats::ErrorCode::timed_out, "no result within " + std::to_string(ms) + " ms");
    }
    co_return *std::move(outcome);
}

/// Runs `work` out of reach of the caller's cancellation. For what must be finished once begun;
/// give it a deadline of its own.
template <typename T>
Task<T> shielded(Task<T> work) {
    namespace asio = boost::asio;
    auto executor = co_await asio::this_coro::executor;
    std::optional<formats::Result<T>> outcome;
    auto unreachable = asio::bind_cancellation_slot(asio::cancellation_slot{}, asio::use_awaitable);
    co_await asio::co_spawn(executor, detail::run_into(outcome, std::move(work)), unreachable);
    co_return *std::move(outcome);
}

/// Waits for `delay`; Error{cancelled} when cancelled meanwhile.
inline Task<void> pause_for(Duration delay) {
    auto alive = co_await check_cancelled();
    if (!alive) {
        co_return alive;
    }
    auto executor = co_await boost::asio::this_coro::executor;
    boost::asio::steady_timer timer{executor, delay};
    auto [error] = co_await timer.async_wait(as_result);
    if (error) {
        co_return formats::fail(formats::ErrorCode::cancelled, "the wait was cancelled");
    }
    co_return formats::Status{};
}

/// Lets everything else that is ready on this thread run once.
inline Task<void> yield_now() {
    auto executor = co_await boost::asio::this_coro::executor;
    co_await boost::asio::post(executor, boost::asio::use_awaitable);
    co_return co_await check_cancelled();
}

/// Runs `call` (returns a Result<T>, may block) on `worker` while this coroutine sleeps on its own
/// thread. Not cancellable: the result is always waited for.
template <typename Call>
boost::asio::awaitable<std::invoke_result_t<Call>> offload(Executor worker, Call call) {
    namespace asio = boost::asio;
    auto home = co_await asio::this_coro::executor;
    std::optional<std::invoke_result_t<Call>> outcome;
    std::exception_ptr thrown;
    // The coroutine itself never leaves its thread: its cancellation state is not thread-safe.
    auto initiate = [&](auto handler) {
        auto keep_alive = asio::prefer(home, asio::execution::outstanding_work.tracked);
        asio::post(worker, [&, keep_alive, handler = std::move(handler)]() mutable {
            try {
                outcome.emplace(call());
            } catch (...) {
                thrown = std::current_exception();
            }
            asio::post(keep_alive, std::move(handler));
        });
    };
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(
        initiate, asio::use_awaitable);
    if (thrown) {
        std::rethrow_exception(thrown);
    }
    co_return *std::move(outcome);
}

/// Starts `work` on `executor`; `on_done(Result<T>)` is called there exactly once, unless the
/// io_context is destroyed first. The only place where exceptions of libraries become an Error.
/// `cancel` may be empty; its signal must be emitted on the executor's thread and live until
/// on_done is called, which may destroy it and all that work referred to.
template <typename T, typename OnDone>
void spawn(
    Executor executor, Task<T> work, OnDone on_done, boost::asio::cancellation_slot cancel = {}) {
    namespace asio = boost::asio;
    auto outcome = std::make_unique<std::optional<formats::Result<T>>>();
    auto supervised = detail::supervise(*outcome, std::move(work));
    // Shared by the task and by cancellations that are on their way to it when it ends: Asio's own
    // handling of a slot would have them find freed memory.
    auto inner = std::make_shared<asio::cancellation_signal>();
    if (cancel.is_connected()) {
        cancel.assign([executor, inner](asio::cancellation_type type) {
            asio::dispatch(executor, [inner, type] { inner->emit(type); });
        });
    }
    auto finish = [executor, inner, outcome = std::move(outcome), on_done = std::move(on_done)](
                      const std::exception_ptr&) mutable {
        // Asio calls us from within the task's last frame: post, so that on_done sees none of it.
        asio::post(
            executor,
            [inner, outcome = std::move(outcome), on_done = std::move(on_done)]() mutable {
                std::move(on_done)(*std::move(*outcome));
            });
    };
    auto slot = inner->slot();
    asio::co_spawn(
        executor, std::move(supervised), asio::bind_cancellation_slot(slot, std::move(finish)));
}

} // namespace wherry::transport
