#!/usr/bin/perl
# An example: a guest's console on a page of this machine's own browser. Prints the page's address. It has no users
# and no encryption: whoever reads the address has the console.
use strict;
use warnings;
use Mojolicious::Lite -signatures;
use Mojo::Server::Daemon;
use Mojo::Util qw(secure_compare);
use Sys::Virt;

die "usage: $0 URI DOMAIN\n" if @ARGV != 2;
my ($uri, $name) = @ARGV;
$| = 1;

my $conn   = Sys::Virt->new(uri => $uri);
my $domain = $conn->get_domain_by_name($name);
open my $random, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
read $random, my $seed, 16 or die "/dev/urandom: $!\n";
my $token  = unpack 'H*', $seed;
my $daemon = Mojo::Server::Daemon->new(app => app, listen => ['http://127.0.0.1'], silent => 1)->start;
my $origin = 'http://127.0.0.1:' . $daemon->ports->[0];

# Debian packages xterm.js as modules for Node.js, which the page puts together. Its style sheet is for browsers.
push @{ app->static->paths }, '/usr/share/nodejs/xterm/lib', '/usr/share/javascript/xterm';

app->log->level('warn');
get '/' => 'page';

# Any page that the browser has open can ask for this: only our own knows the token.
websocket '/console' => sub ($c) {
    return $c->render(text => "not this page\n", status => 403)
        if ($c->req->headers->origin // '') ne $origin || !secure_compare($c->param('token') // '', $token);
    my $leave = sub ($why) {
        $c->send({ binary => "\r\n[$why]\r\n" }, sub { $c->finish }) if $c->tx && !$c->tx->is_finished;
    };
    my $st = $conn->new_stream;
    return $leave->($@) unless eval { $domain->open_console($st, undef, 0); 1 };
    my $console = Mojo::IOLoop::Stream->new($st->socket)->timeout(0);
    # No more is read of the guest until the browser has what was read.
    $console->on(read => sub ($console, $bytes) {
        $console->stop;
        $c->send({ binary => $bytes }, sub { $console->start });
    });
    $console->on(close => sub { $leave->(eval { $st->finish; 1 } ? 'the console has ended' : $@) });
    $c->on(binary => sub ($c, $bytes) { $console->write($bytes) });
    $c->on(finish => sub {
        $console->unsubscribe('close')->close;
        eval { $st->abort };
        undef $console;
    });
    $c->inactivity_timeout(0);
    $console->start;
};

print "$origin/#$token\n";
$daemon->run;

__DATA__
@@ page.html.ep
<!DOCTYPE html>
<title>Console</title>
<link rel="stylesheet" href="/xterm.css">
<div id="terminal"></div>
<script>
  const loaded = {};
  function load(path) {    // a module for Node.js, and what it requires
    if (loaded[path]) return loaded[path].exports;
    const module = loaded[path] = {exports: {}}, file = new XMLHttpRequest(), base = new URL(path, location);
    file.open('GET', path + '.js', false);
    file.send();
    new Function('module', 'exports', 'require', file.responseText)(
      module, module.exports, name => load(new URL(name, base).pathname));
    return module.exports;
  }
  const terminal = new (load('/public/Terminal').Terminal)({cols: 80, rows: 24});
  terminal.open(document.getElementById('terminal'));
  const socket = new WebSocket(`ws://${location.host}/console?token=${location.hash.slice(1)}`);
  socket.binaryType = 'arraybuffer';
  const text = new TextDecoder();
  socket.onmessage = message => terminal.write(text.decode(message.data, {stream: true}));
  socket.onclose = () => terminal.write('\r\n[closed]\r\n');
  terminal.on('data', typed => socket.send(new TextEncoder().encode(typed)));
  terminal.focus();
</script>
