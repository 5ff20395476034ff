# shellcheck shell=bash
# title: perl: fork, threads, shared variables, sorting and pattern matching
set -e -o pipefail
cat > fork.pl <<'P'
use strict; use warnings;
my %sum;
for my $child (1 .. 12) {
  pipe(my $read, my $write) or die;
  my $pid = fork // die;
  if (!$pid) {
    close $read;
    my @list = map { ($_ * $child * 7919) % 10007 } 1 .. 40000;
    my $text = join ",", sort { $a <=> $b } @list;
    my $sum = 0;
    $sum = ($sum * 33 + $_) % 4294967291 for @list;
    print $write "$sum ", length($text), "\n";
    close $write;
    exit $child;
  }
  close $write;
  my $line = <$read>;
  waitpid $pid, 0;
  print "child $child: status ", $? >> 8, ", $line";
}
my $text = join " ", map { "word$_" } 1 .. 100000;
my $n = () = $text =~ /word\d*7\b/g;
print "matches $n\n";
(my $copy = $text) =~ s/word(\d+)/<$1>/g;
print length($copy), "\n";
P
cat > threads.pl <<'P'
use strict; use warnings; use threads; use threads::shared; use Thread::Queue;
my $counter :shared = 0;
my %seen :shared;
my $queue = Thread::Queue->new(1 .. 4000);
$queue->end;
my @workers = map { threads->create(sub {
  my $done = 0;
  while (defined(my $item = $queue->dequeue)) {
    my @memory = (1 .. $item % 500);
    lock $counter;
    $counter += $item + @memory;
    $seen{$item} = 1;
    ++$done;
  }
  return $done;
}) } 1 .. 6;
my $done = 0;
$done += $_->join for @workers;
print "items $done, counter $counter, seen ", scalar(keys %seen), "\n";
for my $round (1 .. 30) {
  my @short = map { my $n = $_; threads->create(sub { my $s = "x" x (100000 * $n); length $s }) } 1 .. 4;
  my $total = 0; $total += $_->join for @short;
  print "round $round: $total\n" if $round % 10 == 0;
}
if (my $pid = fork) { waitpid $pid, 0; print "forked with threads: ", $? >> 8, "\n" }
else { my $t = threads->create(sub { 42 }); exit $t->join }
P
perl fork.pl
perl -Mthreads threads.pl
