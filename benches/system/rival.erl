%% Erlang's side: calls from one node to another with erpc.
%% In: requests on standard input, as `benches/system/worker.rs` describes. Out: times in nanoseconds.
-module(rival).
-export([work/1, add/2, echo/1]).

add(A, B) -> A + B.

echo(Bytes) -> Bytes.

%% Started with -s on the node that calls; the argument is the node that serves.
work([There]) ->
    wait_for(There, 300),
    io:format("ready~n"),
    requests(There).

wait_for(There, Left) when Left > 0 ->
    case net_kernel:connect_node(There) of
        true -> ok;
        _ -> timer:sleep(100), wait_for(There, Left - 1)
    end.

requests(There) ->
    case io:get_line("") of
        eof -> halt();
        Line ->
            [Word | Numbers] = string:lexemes(string:trim(Line), " "),
            Times = answer(Word, [list_to_integer(Number) || Number <- Numbers], There),
            io:format("~s~n", [lists:join(" ", [float_to_list(Time / 1, [{decimals, 1}]) || Time <- Times])]),
            requests(There)
    end.

answer("each", [Calls], There) ->
    [timed(fun() -> call(There, N) end) || N <- lists:seq(1, Calls)];
answer("flight", [Calls, Most], There) ->
    Each = Calls div Most,
    Took = timed(fun() ->
        Processes = [spawn_monitor(fun() -> calls(There, Each) end) || _ <- lists:seq(1, Most)],
        [receive {'DOWN', Reference, process, Process, normal} -> ok end || {Process, Reference} <- Processes]
    end),
    [Took / (Each * Most)];
answer("echo", [Calls, Size], There) ->
    Bytes = binary:copy(<<7>>, Size),
    [timed(fun() -> Bytes = erpc:call(There, ?MODULE, echo, [Bytes]) end) || _ <- lists:seq(1, Calls)].

call(There, N) ->
    Sum = N + 1,
    Sum = erpc:call(There, ?MODULE, add, [N, 1]).

calls(_, 0) -> ok;
calls(There, N) ->
    call(There, N),
    calls(There, N - 1).

timed(Work) ->
    Began = erlang:monotonic_time(nanosecond),
    Work(),
    erlang:monotonic_time(nanosecond) - Began.
